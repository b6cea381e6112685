use super::*;
use crate::case::Action;
use crate::firewall::expression::Verdict;

fn rendered(expressions: Vec<Expression>) -> String {
    rule(
        Family::Inet,
        &Rule {
            handle: Some(4),
            position: 1,
            comment: None,
            packets: None,
            expressions,
        },
    )
}

fn load_dport() -> Expression {
    Expression::Payload {
        base: PayloadBase::Transport,
        offset: 2,
        length: 2,
        to: Register(0),
    }
}

fn equals(data: &[u8]) -> Expression {
    Expression::Compare {
        operator: Operator::Equal,
        from: Register(0),
        data: data.to_vec(),
    }
}

fn is_tcp() -> [Expression; 2] {
    let to = Register(0);
    [Expression::Meta { key: 16, to }, equals(&[6])]
}

#[test]
fn a_rejected_port_reads_as_in_nft() {
    let mut expressions = is_tcp().to_vec();
    expressions.extend([
        load_dport(),
        equals(&9101_u16.to_be_bytes()),
        Expression::Terminal(Action::RejectWithReset),
    ]);
    assert_eq!(
        rendered(expressions),
        "tcp dport 9101 reject with tcp reset"
    );
}

#[test]
fn a_protocol_alone_is_kept() {
    let mut expressions = is_tcp().to_vec();
    expressions.push(Expression::Verdict(Verdict::Drop));
    assert_eq!(rendered(expressions), "meta l4proto tcp drop");
}

#[test]
fn a_network_and_a_state_are_told_by_their_masks() {
    let from = Register(0);
    let masked = |mask: &[u8]| Expression::Mask {
        from,
        to: from,
        mask: mask.to_vec(),
        xor: vec![0; mask.len()],
    };
    let expressions = vec![
        Expression::Payload {
            base: PayloadBase::Network,
            offset: 12,
            length: 4,
            to: from,
        },
        masked(&[255, 255, 0, 0]),
        equals(&[10, 1, 0, 0]),
        Expression::Lookup {
            set: "blocked".to_owned(),
            from,
            to: None,
            verdict: true,
            negated: false,
        },
        Expression::Unknown {
            name: "osf".to_owned(),
        },
    ];
    let text = rendered(expressions);
    assert!(text.starts_with("ip saddr 10.1.0.0/16"), "{text}");
    assert!(text.ends_with("vmap @blocked [osf]"), "{text}");
}

#[test]
fn a_concatenation_and_a_translation_read_as_in_nft() {
    let port = Register(1);
    let mut expressions = is_tcp().to_vec();
    expressions.extend([
        Expression::Payload {
            base: PayloadBase::Network,
            offset: 12,
            length: 3,
            to: Register(0),
        },
        equals(&[10, 1, 2]),
        load_dport(),
        Expression::Payload {
            base: PayloadBase::Network,
            offset: 16,
            length: 4,
            to: port,
        },
        Expression::Lookup {
            set: "known".to_owned(),
            from: Register(0),
            to: None,
            verdict: false,
            negated: true,
        },
        Expression::Immediate {
            data: vec![10, 0, 0, 3],
            to: Register(0),
        },
        Expression::Immediate {
            data: vec![0x1f, 0x90],
            to: port,
        },
        Expression::Nat {
            destination: true,
            redirect: false,
            address: Some(Register(0)),
            port: Some(port),
        },
    ]);
    assert_eq!(
        rendered(expressions),
        "meta l4proto tcp ip saddr 10.1.2.0/24 tcp dport . ip daddr != @known \
         dnat to 10.0.0.3:8080"
    );
}
