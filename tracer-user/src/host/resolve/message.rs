//! Questions for addresses, and what is answered.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};

/// The type of record that holds an address of this family.
fn record(v6: bool) -> QTYPE {
    QTYPE::TYPE(if v6 { TYPE::AAAA } else { TYPE::A })
}

/// The bytes of a question; none for what is no name of DNS.
pub fn question(id: u16, name: &str, v6: bool) -> Option<Vec<u8>> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(
        Name::new(name).ok()?,
        record(v6),
        QCLASS::CLASS(CLASS::IN),
        false,
    ));
    packet.build_bytes_vec().ok()
}

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// None where the name has no address of that family, or does not exist.
    Addresses(Vec<IpAddr>),
    /// It could not say, or not all.
    Failed(String),
}

/// The reply to the question with that id; none for anything else that came.
pub fn reply(bytes: &[u8], id: u16, name: &str, v6: bool) -> Option<Reply> {
    let packet = Packet::parse(bytes).ok()?;
    let asked = packet.questions.first()?;
    let meant = packet.id() == id
        && packet.has_flags(PacketFlag::RESPONSE)
        && asked.qtype == record(v6)
        && asked.qname.to_string().eq_ignore_ascii_case(name);
    if !meant {
        return None;
    }
    Some(match packet.rcode() {
        RCODE::NameError => Reply::Addresses(Vec::new()),
        RCODE::NoError if packet.has_flags(PacketFlag::TRUNCATION) => {
            Reply::Failed("its answer is too long for a datagram".to_owned())
        }
        RCODE::NoError => Reply::Addresses(addresses(&packet, v6)),
        other => Reply::Failed(format!("it answers {other:?}")),
    })
}

/// The addresses of all records: a server that is asked for a name follows its aliases.
fn addresses(packet: &Packet, v6: bool) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = packet
        .answers
        .iter()
        .filter_map(|answer| match &answer.rdata {
            RData::A(found) if !v6 => Some(Ipv4Addr::from(found.address).into()),
            RData::AAAA(found) if v6 => Some(Ipv6Addr::from(found.address).into()),
            _ => None,
        })
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::{A, CNAME};

    use super::*;

    fn answered(id: u16, code: RCODE, addresses: &[[u8; 4]]) -> Vec<u8> {
        let question = question(id, "app.test", false).expect("a name");
        let mut packet = Packet::parse(&question).expect("a question").into_reply();
        packet.questions = Packet::parse(&question).expect("a question").questions;
        *packet.rcode_mut() = code;
        let name = || Name::new("app.test").expect("a name");
        let alias = RData::CNAME(CNAME(Name::new("real.test").expect("a name")));
        packet
            .answers
            .push(ResourceRecord::new(name(), CLASS::IN, 1, alias));
        for address in addresses {
            let address = u32::from_be_bytes(*address);
            let record = ResourceRecord::new(name(), CLASS::IN, 1, RData::A(A { address }));
            packet.answers.push(record);
        }
        packet.build_bytes_vec_compressed().expect("bytes")
    }

    #[test]
    fn addresses_behind_an_alias_are_read() {
        let bytes = answered(7, RCODE::NoError, &[[10, 0, 0, 6], [10, 0, 0, 5]]);
        let expected = ["10.0.0.5", "10.0.0.6"].map(|ip| ip.parse().expect("an address"));
        assert_eq!(
            reply(&bytes, 7, "App.test", false),
            Some(Reply::Addresses(expected.to_vec()))
        );
    }

    #[test]
    fn the_answer_to_another_question_is_none() {
        let bytes = answered(7, RCODE::NoError, &[[10, 0, 0, 6]]);
        assert_eq!(reply(&bytes, 8, "app.test", false), None);
        assert_eq!(reply(&bytes, 7, "other.test", false), None);
        assert_eq!(reply(&bytes, 7, "app.test", true), None);
        let question = question(7, "app.test", false).expect("a name");
        assert_eq!(reply(&question, 7, "app.test", false), None);
    }

    #[test]
    fn a_name_that_does_not_exist_is_told_from_a_server_that_cannot_say() {
        let missing = answered(7, RCODE::NameError, &[]);
        assert_eq!(
            reply(&missing, 7, "app.test", false),
            Some(Reply::Addresses(Vec::new()))
        );
        let failed = answered(7, RCODE::ServerFailure, &[]);
        assert!(matches!(
            reply(&failed, 7, "app.test", false),
            Some(Reply::Failed(_))
        ));
    }

    #[test]
    fn what_is_no_name_is_not_asked_for() {
        assert_eq!(question(1, &"a".repeat(64), false), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = reply(&bytes, 7, "app.test", false);
        }

        #[test]
        fn a_damaged_answer_is_survived(at in 0_usize..60, byte: u8) {
            let mut bytes = answered(7, RCODE::NoError, &[[10, 0, 0, 6]]);
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            let _ = reply(&bytes, 7, "app.test", false);
        }
    }
}
