//! Which listeners could be what a mistyped port was meant for.

use crate::case::{Listener, Process};

/// How much a listener looks like the one that was meant; more is likelier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Likeness {
    /// Nothing but that it serves an application.
    Application,
    /// The ports end alike, such as 80 and 8080, or serve the same protocol by custom.
    Related,
    /// One slip of the hand makes one port of the other.
    Slip,
}

/// How much a listener looks like the one meant by a dialled port; null where it does not.
pub(super) fn likeness(dialled: u16, listener: &Listener) -> Option<Likeness> {
    let port = listener.address.port();
    if port == dialled || serves_the_host(listener) {
        return None;
    }
    if is_slip(dialled, port) {
        return Some(Likeness::Slip);
    }
    if is_related(dialled, port) {
        return Some(Likeness::Related);
    }
    serves_an_application(listener).then_some(Likeness::Application)
}

/// By its program and its port, an application and no service of the host or of its data.
pub(super) fn serves_an_application(listener: &Listener) -> bool {
    let application = listener.owners.first().is_some_and(is_application_runtime);
    application && !is_data_service(listener) && !serves_the_host(listener)
}

/// Ports so common that two listeners on them need have nothing to do with each other.
pub(super) fn is_common(port: u16) -> bool {
    port < 1024
        || matches!(
            port,
            3000 | 5000 | 8000 | 8008 | 8080 | 8081 | 8443 | 8888 | 9000 | 9090
        )
}

const HOST_SERVICES: [&str; 36] = [
    "agetty",
    "avahi-daemon",
    "chronyd",
    "containerd",
    "cupsd",
    "dnsmasq",
    "dockerd",
    "exim4",
    "in.tftpd",
    "inetd",
    "kubelet",
    "kube-proxy",
    "lighttpd-angel",
    "master",
    "named",
    "node_exporter",
    "ntpd",
    "pdns_server",
    "qemu-system-x86",
    "rpc.mountd",
    "rpc.statd",
    "rpcbind",
    "rsyslogd",
    "smbd",
    "snmpd",
    "sshd",
    "stubby",
    "systemd",
    "systemd-journal",
    "systemd-network",
    "systemd-resolve",
    "tailscaled",
    "unbound",
    "vsftpd",
    "xinetd",
    "zabbix_agentd",
];

const HOST_PORTS: [u16; 18] = [
    21, 22, 23, 25, 53, 111, 123, 139, 323, 445, 587, 631, 2375, 2376, 5355, 10248, 10249, 10250,
];

const DATA_SERVICES: [&str; 11] = [
    "beam.smp",
    "epmd",
    "etcd",
    "mariadbd",
    "memcached",
    "mongod",
    "mysqld",
    "postgres",
    "redis-server",
    "slapd",
    "valkey-server",
];

const DATA_PORTS: [u16; 12] = [
    389, 636, 1433, 2379, 2380, 3306, 4369, 5432, 5672, 6379, 11211, 27017,
];

const APPLICATION_RUNTIMES: [&str; 20] = [
    "apache2",
    "bun",
    "caddy",
    "deno",
    "docker-proxy",
    "dotnet",
    "gunicorn",
    "httpd",
    "hypercorn",
    "java",
    "node",
    "perl",
    "php",
    "puma",
    "python",
    "ruby",
    "tomcat",
    "unicorn",
    "uvicorn",
    "uwsgi",
];

fn serves_the_host(listener: &Listener) -> bool {
    HOST_PORTS.contains(&listener.address.port())
        || listener
            .owners
            .first()
            .is_some_and(|owner| HOST_SERVICES.contains(&owner.comm.as_str()))
}

fn is_data_service(listener: &Listener) -> bool {
    DATA_PORTS.contains(&listener.address.port())
        || listener
            .owners
            .first()
            .is_some_and(|owner| DATA_SERVICES.contains(&owner.comm.as_str()))
}

/// By the executable too: runtimes rename their threads (`MainThread`, `gunicorn: worker`).
fn is_application_runtime(owner: &Process) -> bool {
    let exe = owner.exe.as_deref().unwrap_or_default();
    let file = exe.rsplit('/').next().unwrap_or_default();
    APPLICATION_RUNTIMES
        .iter()
        .any(|runtime| owner.comm.starts_with(runtime) || file.starts_with(runtime))
}

/// One digit differs, is missing or too many, or two neighbours have changed places.
fn is_slip(dialled: u16, port: u16) -> bool {
    let (dialled, port) = (dialled.to_string(), port.to_string());
    let (dialled, port) = (dialled.as_bytes(), port.as_bytes());
    if dialled.len().min(port.len()) < 2 {
        return false;
    }
    match dialled.len().abs_diff(port.len()) {
        0 => {
            let differing: Vec<usize> = (0..dialled.len())
                .filter(|&place| dialled[place] != port[place])
                .collect();
            match differing[..] {
                [_] => true,
                [a, b] => b == a + 1 && dialled[a] == port[b] && dialled[b] == port[a],
                _ => false,
            }
        }
        1 if dialled.len() > port.len() => lacks_one(dialled, port),
        1 => lacks_one(port, dialled),
        _ => false,
    }
}

fn lacks_one(longer: &[u8], shorter: &[u8]) -> bool {
    (0..longer.len()).any(|left_out| {
        longer[..left_out] == shorter[..left_out] && longer[left_out + 1..] == shorter[left_out..]
    })
}

fn is_related(dialled: u16, port: u16) -> bool {
    const CUSTOMS: [&[u16]; 2] = [
        &[80, 8000, 8008, 8080, 8081, 8888],
        &[443, 4443, 8443, 9443],
    ];
    let customary = CUSTOMS
        .iter()
        .any(|ports| ports.contains(&dialled) && ports.contains(&port));
    let (dialled, port) = (dialled.to_string(), port.to_string());
    let (longer, shorter) = if dialled.len() > port.len() {
        (dialled, port)
    } else {
        (port, dialled)
    };
    customary || (shorter.len() >= 2 && longer.len() > shorter.len() && longer.ends_with(&shorter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::example;

    #[test]
    fn one_slip_of_the_hand_is_recognised() {
        for (dialled, port) in [
            (9101, 9102),
            (8081, 8018),
            (808, 8080),
            (18080, 8080),
            (9101, 9191),
        ] {
            assert!(is_slip(dialled, port), "{dialled} {port}");
        }
        for (dialled, port) in [(9101, 5432), (9101, 9200), (8, 9), (9101, 1019)] {
            assert!(!is_slip(dialled, port), "{dialled} {port}");
        }
    }

    #[test]
    fn ports_that_end_alike_or_serve_alike_are_related() {
        assert!(is_related(80, 8080) && is_related(8443, 443) && is_related(8080, 8000));
        assert!(!is_related(9101, 8080) && !is_related(5, 8085));
    }

    #[test]
    fn a_service_of_the_host_is_never_meant() {
        let mut sshd = example::listener("127.0.0.1:2222", 1, "sshd");
        assert_eq!(likeness(2223, &sshd), None);
        sshd.owners[0].comm = "app".to_owned();
        assert_eq!(likeness(2223, &sshd), Some(Likeness::Slip));
    }

    #[test]
    fn a_database_is_meant_only_by_a_slip() {
        let postgres = example::listener("127.0.0.1:5432", 1, "postgres");
        assert_eq!(likeness(5433, &postgres), Some(Likeness::Slip));
        assert_eq!(likeness(9101, &postgres), None);
    }

    #[test]
    fn an_application_far_away_is_a_weak_candidate_and_an_unknown_program_is_none() {
        let python = example::listener("127.0.0.1:6000", 1, "python3");
        assert_eq!(likeness(9101, &python), Some(Likeness::Application));
        let unknown = example::listener("127.0.0.1:6000", 1, "agent");
        assert_eq!(likeness(9101, &unknown), None);
    }
}
