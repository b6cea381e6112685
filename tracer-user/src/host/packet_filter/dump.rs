//! One reading of everything, put together.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::case::Backend;
use crate::firewall::Ruleset;
use crate::firewall::ruleset::{Chain, Set, Table};
use crate::host::netlink::{Conversation, More, NetlinkError};
use crate::host::packet_filter::expressions::Surroundings;
use crate::host::packet_filter::limits::Measure;
use crate::host::packet_filter::message::{Message, Request};
use crate::host::packet_filter::objects::Object;
use crate::host::packet_filter::{backend, sets, tables};

/// How long the elements of sets are read.
const PATIENCE: Duration = Duration::from_secs(2);

/// A table while it is being read.
struct Part {
    /// `NFPROTO_*`
    number: u8,
    table: Table,
    objects: HashMap<String, Object>,
    object_maps: HashMap<String, u32>,
    chain_places: HashMap<String, usize>,
    compat: bool,
}

impl Part {
    fn surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            family: self.table.family,
            objects: &self.objects,
            object_maps: &self.object_maps,
        }
    }

    fn add_rule(&mut self, chain: &str, message: &Message) {
        let Some(place) = self.chain_places.get(chain) else {
            return;
        };
        let (mut rule, compat) = tables::rule(message.attributes(), self.surroundings());
        let rules = &mut self.table.chains[*place].rules;
        rule.position = u32::try_from(rules.len() + 1).unwrap_or(u32::MAX);
        rules.push(rule);
        self.compat |= compat;
    }
}

/// What has been read so far.
#[derive(Default)]
pub struct Dump {
    parts: Vec<Part>,
    places: HashMap<(u8, String), usize>,
    measure: Measure,
    /// What could not be read, in words.
    pub unread: Vec<String>,
}

impl Dump {
    /// Reads everything. False where something changed underneath.
    pub fn read(&mut self, conversation: &mut Conversation) -> Result<bool, NetlinkError> {
        let mut consistent = self.each(conversation, Request::Tables, Self::add_table)?;
        consistent &= self.each(conversation, Request::Chains, Self::add_chain)?;
        consistent &= self.each(conversation, Request::Objects, Self::add_object)?;
        consistent &= self.each(conversation, Request::Sets, Self::add_set)?;
        consistent &= self.each(conversation, Request::Rules, Self::add_rule)?;
        let deadline = Instant::now() + PATIENCE;
        for place in 0..self.parts.len() {
            consistent &= self.read_elements(conversation, place, deadline)?;
        }
        Ok(consistent)
    }

    pub fn into_ruleset(mut self, generation: u32) -> Ruleset {
        self.unread.extend(self.measure.left_out());
        Ruleset {
            netns: 0,
            generation: Some(generation),
            tables: self.parts.into_iter().map(finished).collect(),
            ip_sets: Default::default(),
            unread: self.unread,
        }
    }

    fn each(
        &mut self,
        conversation: &mut Conversation,
        request: Request,
        add: fn(&mut Self, &Message),
    ) -> Result<bool, NetlinkError> {
        conversation.dump(Message::asking(request, 0), |message| {
            add(self, &message);
            More::Yes
        })
    }

    fn part(&mut self, message: &Message, table: String) -> Option<&mut Part> {
        let place = self.places.get(&(message.family, table))?;
        self.parts.get_mut(*place)
    }

    fn add_table(&mut self, message: &Message) {
        if !self.measure.admits_other(message) {
            return;
        }
        let Some((name, dormant)) = tables::table(message.attributes()) else {
            return;
        };
        let Some(family) = tables::family(message.family) else {
            let unknown = format!("table {name} of a family numbered {}", message.family);
            return self.unread.push(unknown);
        };
        let key = (message.family, name.clone());
        self.places.insert(key, self.parts.len());
        self.parts.push(Part {
            number: message.family,
            table: Table {
                backend: Backend::Nft,
                family,
                name,
                dormant,
                chains: Vec::new(),
                sets: HashMap::new(),
            },
            objects: HashMap::new(),
            object_maps: HashMap::new(),
            chain_places: HashMap::new(),
            compat: false,
        });
    }

    fn add_chain(&mut self, message: &Message) {
        if !self.measure.admits_other(message) {
            return;
        }
        let Some(family) = tables::family(message.family) else {
            return;
        };
        let Some((table, chain)) = tables::chain(message.attributes(), family) else {
            return;
        };
        match chain {
            Ok(chain) => self.keep_chain(message, table, chain),
            Err(name) => self.unread.push(format!(
                "chain {name} of table {table}: of a type or at a hook that is not known"
            )),
        }
    }

    fn keep_chain(&mut self, message: &Message, table: String, chain: Chain) {
        if let Some(part) = self.part(message, table) {
            let place = part.table.chains.len();
            part.chain_places.insert(chain.name.clone(), place);
            part.table.chains.push(chain);
        }
    }

    fn add_object(&mut self, message: &Message) {
        if !self.measure.admits_other(message) {
            return;
        }
        let Some((table, name, object)) = Object::decode(message.attributes()) else {
            return;
        };
        if let Some(part) = self.part(message, table) {
            part.objects.insert(name, object);
        }
    }

    fn add_set(&mut self, message: &Message) {
        if !self.measure.admits_other(message) {
            return;
        }
        let Some(described) = sets::describe(message.attributes()) else {
            return;
        };
        if let Some(part) = self.part(message, described.table) {
            if let Some(kind) = described.objects {
                part.object_maps.insert(described.name.clone(), kind);
            }
            part.table.sets.insert(described.name, described.set);
        }
    }

    fn add_rule(&mut self, message: &Message) {
        if !self.measure.admits_rule(message) {
            return;
        }
        let Some((table, chain)) = tables::place(message.attributes()) else {
            return;
        };
        if let Some(part) = self.part(message, table) {
            part.add_rule(&chain, message);
        }
    }

    /// The kernel dumps the elements of one set at a time, and goes through all sets of a table
    /// to find it (`nft_set_lookup`): with very many sets this would take minutes.
    fn read_elements(
        &mut self,
        conversation: &mut Conversation,
        place: usize,
        deadline: Instant,
    ) -> Result<bool, NetlinkError> {
        let (mut consistent, mut late) = (true, 0);
        let mut named = std::mem::take(&mut self.parts[place].table.sets);
        for (name, set) in &mut named {
            if Instant::now() < deadline {
                consistent &= self.read_set(conversation, place, name, set)?;
            } else {
                set.changes = true;
                late += 1;
            }
        }
        let table = &mut self.parts[place].table;
        if late > 0 {
            let name = &table.name;
            let late = format!("elements of {late} sets of table {name}: reading took too long");
            self.unread.push(late);
        }
        table.sets = named;
        Ok(consistent)
    }

    /// A set that is left out in part counts as one whose elements come and go: that a key is
    /// not among those read says nothing.
    fn read_set(
        &mut self,
        conversation: &mut Conversation,
        place: usize,
        name: &str,
        set: &mut Set,
    ) -> Result<bool, NetlinkError> {
        let (part, measure) = (&self.parts[place], &mut self.measure);
        let (mut points, mut left_out) = (Vec::new(), 0);
        let dumped = conversation.dump(elements_of(part, name), |message: Message| {
            measure.admits(&message);
            for element in message.attributes().list(LIST_ELEMENTS) {
                let point = measure.admits_element().then(|| sets::point(element));
                match point.flatten() {
                    Some(point) => points.push(point),
                    None => left_out += 1,
                }
            }
            More::Yes
        });
        let (elements, odd) = sets::elements(set, points);
        set.elements = elements;
        let table = &part.table.name;
        let (consistent, why) = match dumped {
            Ok(consistent) if left_out + odd == 0 => return Ok(consistent),
            Ok(consistent) => (consistent, format!("{} of its elements", left_out + odd)),
            // It was deleted meanwhile, or its name is not UTF-8.
            Err(NetlinkError::Refused { .. }) => (true, "its elements".to_owned()),
            Err(error) => return Err(error),
        };
        set.changes = true;
        self.unread
            .push(format!("set {name} of table {table}: {why}"));
        Ok(consistent)
    }
}

const LIST_ELEMENTS: u16 = 3;

fn elements_of(part: &Part, set: &str) -> Message {
    const TABLE: u16 = 1;
    const SET: u16 = 2;
    Message::asking(Request::Elements, part.number)
        .with_name(TABLE, part.table.name.as_bytes())
        .with_name(SET, set.as_bytes())
}

fn finished(part: Part) -> Table {
    let mut table = part.table;
    table.backend = backend::of(table.family, &table.name, &table.chains, part.compat);
    table
}
