//! Expressions that change the packet or a state, and those that hold only sometimes.

use crate::case::Action;
use crate::firewall::Expression;
use crate::host::packet_filter::attributes::Attributes;
use crate::host::packet_filter::expressions::{self, Surroundings, register};
use crate::host::packet_filter::objects::Object;

/// Null for what is none of these or makes no sense.
pub fn decode(name: &str, data: Attributes<'_>) -> Option<Expression> {
    match name {
        "log" | "notrack" | "dup" | "flow_offload" => Some(statement(name)),
        // It ends the rule where no socket takes the packet (nft_tproxy_eval_v4).
        "tproxy" => Some(sometimes(name)),
        "exthdr" => Some(statement("exthdr set")),
        "payload" => payload(data),
        "meta" => meta(data),
        "ct" => Some(Expression::SetConntrack {
            key: data.u32(2)?,
            from: register(data, 4)?,
        }),
        "dynset" => dynset(data),
        _ => stateful(name),
    }
}

/// Null for what keeps no state.
pub fn stateful(name: &str) -> Option<Expression> {
    match name {
        "counter" | "last" => Some(statement(name)),
        "limit" | "quota" | "connlimit" => Some(sometimes(name)),
        _ => None,
    }
}

fn statement(name: &str) -> Expression {
    Expression::Statement {
        name: name.to_owned(),
    }
}

fn sometimes(name: &str) -> Expression {
    Expression::Sometimes {
        name: name.to_owned(),
    }
}

/// Writing the class of service, the length or the flow label changes nothing that decides about
/// the packet later; writing addresses, ports or the time to live may.
fn payload(data: Attributes<'_>) -> Option<Expression> {
    const NETWORK: u32 = 1;
    const HARMLESS: u32 = 6;
    register(data, 5)?;
    let end = data.u32(3)?.saturating_add(data.u32(4)?);
    let harmless = data.u32(2)? == NETWORK && end <= HARMLESS;
    harmless.then(|| statement("payload set"))
}

fn meta(data: Attributes<'_>) -> Option<Expression> {
    const MARK: u32 = 3;
    let from = register(data, 3)?;
    Some(match data.u32(2)? {
        MARK => Expression::SetMark { from },
        _ => statement("meta set"),
    })
}

/// Inverted, it holds only for a packet that is not in the set and finds no place in it
/// (`nft_dynset_eval`). Deleting always holds.
fn dynset(data: Attributes<'_>) -> Option<Expression> {
    const DELETE: u32 = 2;
    const INVERTED: u32 = 1;
    if data.u32(3)? == DELETE {
        return Some(statement("delete"));
    }
    if data.u32(9).unwrap_or(0) & INVERTED != 0 {
        return Some(sometimes("dynset"));
    }
    let single = data.nested(7);
    Some(Expression::UpdateSet {
        set: data.text(1)?,
        statements: single
            .into_iter()
            .chain(data.list(10))
            .map(expressions::stateful)
            .collect(),
    })
}

/// A stateful object by its name, or by a map: the rule ends where the map has no entry
/// (`nft_objref_map_eval`).
pub fn object(data: Attributes<'_>, around: Surroundings<'_>) -> Vec<Expression> {
    let unknown = || Expression::Unknown {
        name: "objref".to_owned(),
    };
    let Some(set) = data.text(4) else {
        return vec![data.u32(1).map_or_else(unknown, by_kind)];
    };
    let Some(from) = register(data, 3) else {
        return vec![unknown()];
    };
    let kind = around.object_maps.get(&set);
    let lookup = Expression::Lookup {
        set,
        from,
        to: None,
        verdict: false,
        negated: false,
    };
    vec![lookup, kind.copied().map_or_else(unknown, by_kind)]
}

/// What an object of this kind (`NFT_OBJECT_*`) does to the packet.
fn by_kind(kind: u32) -> Expression {
    match kind {
        Object::QUOTA => sometimes("quota"),
        Object::LIMIT => sometimes("limit"),
        Object::CONNLIMIT => sometimes("connlimit"),
        Object::SYNPROXY => Expression::Terminal(Action::Other {
            name: "synproxy".to_owned(),
        }),
        Object::COUNTER => statement("counter"),
        Object::UNSPECIFIED | Object::BEYOND.. => Expression::Unknown {
            name: "objref".to_owned(),
        },
        _ => statement("object"),
    }
}
