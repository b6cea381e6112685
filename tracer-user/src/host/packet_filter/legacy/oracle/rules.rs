//! Random rules and sets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Numbers that look random and are the same in every run (SplitMix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }

    fn not(&mut self) -> &'static str {
        self.of(&["", "", "! "])
    }
}

const CHAINS: u64 = 4;

/// Ports that packets and rules choose from, so that they meet often.
const PORTS: u64 = 6;

fn port(dice: &mut Dice) -> u16 {
    u16::try_from(7000 + dice.below(PORTS)).unwrap()
}

pub fn address(dice: &mut Dice, v6: bool) -> IpAddr {
    let last = u16::try_from(1 + dice.below(3)).unwrap();
    match v6 {
        true => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last).into(),
        false => Ipv4Addr::new(127, 0, 0, u8::try_from(last).unwrap()).into(),
    }
}

fn condition(dice: &mut Dice, v6: bool, output: bool) -> String {
    let not = dice.not();
    let (one, two) = (port(dice), port(dice));
    // multiport takes no range of one port.
    let (low, high) = (one.min(two), one.max(two) + 1);
    let addr = address(dice, v6);
    let prefix = if v6 {
        dice.of(&["128", "127", "126", "8"])
    } else {
        dice.of(&["32", "31", "30", "8"])
    };
    let end = dice.of(&["-s", "-d"]);
    match dice.below(if output { 24 } else { 22 }) {
        0 => format!("{not}{end} {addr}/{prefix}"),
        1 => {
            let side = if output { "-o" } else { "-i" };
            format!("{not}{side} {}", dice.of(&["lo", "l+", "eth0", "lo0"]))
        }
        2 => format!("-m tcp {not}--dport {low}:{high}"),
        3 => format!("-m tcp {not}--sport {low}:{high}"),
        4 => format!(
            "-m tcp {not}--tcp-flags {} {}",
            dice.of(&["SYN,ACK,FIN,RST", "SYN", "ACK", "ALL"]),
            dice.of(&["SYN", "ACK", "SYN,ACK"])
        ),
        5 => format!(
            "-m multiport {not}{} {one},{low}:{high}",
            dice.of(&["--dports", "--sports", "--ports"])
        ),
        6 => format!(
            "-m conntrack {not}--ctstate {}",
            dice.of(&[
                "NEW",
                "ESTABLISHED,RELATED",
                "INVALID",
                "NEW,UNTRACKED",
                "DNAT"
            ])
        ),
        7 => format!(
            "-m mark {not}--mark {}/{}",
            dice.below(4),
            1 + dice.below(3)
        ),
        8 => {
            let range = if v6 {
                "fd00::1-fd00::2"
            } else {
                "127.0.0.2-127.0.0.3"
            };
            format!(
                "-m iprange {not}{} {range}",
                dice.of(&["--src-range", "--dst-range"])
            )
        }
        9 => format!("-m comment --comment word{one}"),
        10 => format!(
            "-m addrtype {not}{} {}",
            dice.of(&["--dst-type", "--src-type"]),
            dice.of(&["LOCAL", "UNICAST", "MULTICAST"])
        ),
        11 if v6 => format!(
            "-m hl --hl-{} {}",
            dice.of(&["eq", "lt", "gt"]),
            63 + dice.below(3)
        ),
        11 => format!(
            "-m ttl --ttl-{} {}",
            dice.of(&["eq", "lt", "gt"]),
            63 + dice.below(3)
        ),
        12 => format!(
            "-m length {not}--length {}",
            dice.of(&["0:39", "200:300", "40:120"])
        ),
        13 => format!("-m comment --comment {}", dice.of(&["a", "b"])),
        14 => format!(
            "-m state {not}--state {}",
            dice.of(&["NEW", "ESTABLISHED", "INVALID,NEW"])
        ),
        15 => set(dice, not),
        16 => format!(
            "-m policy --dir {} --pol {}",
            if output { "out" } else { "in" },
            dice.of(&["none", "ipsec"])
        ),
        17 => format!(
            "-m pkttype {not}--pkt-type {}",
            dice.of(&["unicast", "broadcast"])
        ),
        18 => format!(
            "-m physdev {not}--{}",
            if output {
                "physdev-is-bridged"
            } else {
                dice.of(&["physdev-is-in", "physdev-in lo"])
            }
        ),
        19 => format!(
            "-m connmark {not}--mark {}/{}",
            dice.below(2),
            1 + dice.below(3)
        ),
        20 => format!("-m conntrack --ctdir {}", dice.of(&["ORIGINAL", "REPLY"])),
        21 => match dice.below(4) {
            0 => format!("-m conntrack {not}--ctorigdst {addr}/{prefix}"),
            1 => format!("-m conntrack {not}--ctorigdstport {low}:{high}"),
            2 => format!(
                "-m conntrack {not}--ctstatus {}",
                dice.of(&["SEEN_REPLY", "ASSURED"])
            ),
            _ => format!("-m conntrack {not}--ctproto {}", dice.of(&["tcp", "udp"])),
        },
        22 => match dice.below(2) {
            0 => format!("-m conntrack {not}--ctorigsrc {addr}/{prefix}"),
            _ => format!("-m conntrack {not}--ctorigsrcport {low}:{high}"),
        },
        _ => format!(
            "-m owner {not}--{}",
            dice.of(&[
                "uid-owner 0",
                "uid-owner 1-9",
                "gid-owner 0",
                "socket-exists"
            ])
        ),
    }
}

fn set(dice: &mut Dice, not: &str) -> String {
    let name = dice.of(&[
        "ip src",
        "masked dst",
        "net dst",
        "net src",
        "ipport src,dst",
        "netport dst,dst",
        "port src",
        "ipportip src,dst,dst",
        "ipportnet dst,src,src",
        "netiface src,dst",
        "netiface dst,src",
        "list dst,src",
        // Too few directions for the set are no match.
        "list src",
    ]);
    let nomatch = dice.of(&["", "", " --return-nomatch"]);
    format!("-m set {not}--match-set {name}{nomatch}")
}

/// Sets of most kinds with a few of the addresses and ports, some of them by exception.
pub fn sets(dice: &mut Dice, v6: bool) -> String {
    let (family, mask) = if v6 { ("inet6", 126) } else { ("inet", 30) };
    let mut text = format!(
        "create ip hash:ip family {family}\n\
         create masked hash:ip family {family} netmask {mask}\n\
         create net hash:net family {family}\n\
         create ipport hash:ip,port family {family}\n\
         create netport hash:net,port family {family}\n\
         create ipportip hash:ip,port,ip family {family}\n\
         create ipportnet hash:ip,port,net family {family}\n\
         create netiface hash:net,iface family {family}\n\
         create port bitmap:port range 7000-7010\n\
         create list list:set\n"
    );
    for _ in 0..3 {
        let (one, two) = (address(dice, v6), address(dice, v6));
        let number = port(dice);
        let nomatch = dice.of(&["", " nomatch"]);
        let prefix = match v6 {
            true => dice.of(&["128", "127", "126"]),
            false => dice.of(&["32", "31", "30"]),
        };
        let device = dice.of(&["lo", "l", "eth0"]);
        let wildcard = dice.of(&["", " wildcard"]);
        text += &format!(
            "add ip {one} -exist\nadd masked {one} -exist\n\
             add net {one}/{prefix}{nomatch} -exist\nadd net {two}/{mask} -exist\n\
             add ipport {one},tcp:{number} -exist\nadd ipport {one},udp:{} -exist\n\
             add netport {one}/{prefix},{number}{nomatch} -exist\nadd port {number} -exist\n\
             add ipportip {one},{number},{two} -exist\n\
             add ipportnet {two},{number},{one}/{prefix}{nomatch} -exist\n\
             add ipportnet {two},{},{one}/{mask} -exist\n\
             add netiface {one}/{prefix},{device}{wildcard}{nomatch} -exist\n",
            port(dice),
            port(dice),
        );
    }
    text + "add list ip\nadd list netport\nadd list ipport\n"
}

pub fn ruleset(dice: &mut Dice, v6: bool) -> String {
    let mut text = String::from("*filter\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n");
    for number in 0..CHAINS {
        text += &format!(":in{number} - [0:0]\n:out{number} - [0:0]\n");
    }
    // Only the SYN is to meet the other rules.
    for base in ["INPUT", "OUTPUT"] {
        text += &format!("-A {base} ! -p tcp -j ACCEPT\n");
        text += &format!("-A {base} -p tcp -m tcp ! --tcp-flags SYN,ACK,RST SYN -j ACCEPT\n");
    }
    for (base, prefix) in [("INPUT", "in"), ("OUTPUT", "out")] {
        for number in 0..=CHAINS {
            let of = match number {
                0 => base.to_owned(),
                _ => format!("{prefix}{}", number - 1),
            };
            for _ in 0..dice.below(8) {
                let rule = rule(dice, v6, prefix, number);
                text += &format!("-A {of} {rule}\n");
            }
        }
    }
    text + "COMMIT\n"
}

/// iptables takes one protocol, one source and so on in a rule, and ports of TCP alone.
fn rule(dice: &mut Dice, v6: bool, prefix: &str, number: u64) -> String {
    let protocol = dice.of(&["", "-p tcp", "-p tcp", "! -p udp", "! -p tcp"]);
    let mut parts = vec![protocol.to_owned()];
    let word = |text: &str| {
        let mut words = text.trim_start_matches("! ").split(' ');
        match words.next().unwrap() {
            "-m" => words.next().unwrap().to_owned(),
            option => option.to_owned(),
        }
    };
    for _ in 0..dice.below(3) {
        let condition = condition(dice, v6, prefix == "out");
        let ports = ["tcp", "multiport"].contains(&word(&condition).as_str());
        let twice = parts.iter().any(|part| word(part) == word(&condition));
        if !twice && (protocol == "-p tcp" || !ports) {
            parts.push(condition);
        }
    }
    parts.push(action(dice, prefix, number, protocol == "-p tcp"));
    parts.join(" ")
}

fn action(dice: &mut Dice, prefix: &str, number: u64, tcp: bool) -> String {
    let deeper = number + dice.below(CHAINS);
    match dice.below(12) {
        0..=5 if deeper < CHAINS => format!("{} {prefix}{deeper}", dice.of(&["-j", "-j", "-g"])),
        6 => "-j RETURN".to_owned(),
        7 => "-j DROP".to_owned(),
        8 => "-j ACCEPT".to_owned(),
        9 if tcp => "-j REJECT --reject-with tcp-reset".to_owned(),
        10 => "-j LOG".to_owned(),
        _ => String::new(),
    }
}
