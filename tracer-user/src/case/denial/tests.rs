use super::*;
use crate::diagnose::example::case;

fn attempt(address: &str, ending: Ending) -> Attempt {
    case(address, ending).attempt
}

fn denied(address: &str) -> Attempt {
    let ending = Ending::ConnectFailed {
        errno: libc::EACCES,
        reached_syn_sent: false,
    };
    attempt(address, ending)
}

fn denied_path(path: &str) -> Attempt {
    Attempt {
        family: Family::Unix,
        dialled: Some(Endpoint::Unix(path.as_bytes().to_vec())),
        ..denied("127.0.0.1:1")
    }
}

fn selinux(request: &str, class: &str, rest: &str) -> Denial {
    Denial {
        module: Module::Selinux,
        request: Some(request.to_owned()),
        subject: None,
        object: None,
        class: Some(class.to_owned()),
        permissive: false,
        text: format!(
            "avc:  denied  {{ {request} }} for  pid=9 comm=\"nginx\" {rest} tclass={class}"
        ),
    }
}

#[test]
fn a_denied_connection_is_the_one_to_that_port() {
    let denial = selinux("name_connect", "tcp_socket", "dest=9101");
    assert!(denial.is_about(&denied("127.0.0.1:9101"), &[]));
    assert!(denial.is_about(&denied("[::1]:9101"), &[]));
    assert!(!denial.is_about(&denied("127.0.0.1:9102"), &[]));
    assert!(!denial.is_about(&denied_path("/run/app.sock"), &[]));
    let failed = Ending::SocketFailed {
        errno: libc::EACCES,
    };
    assert!(!denial.is_about(&attempt("127.0.0.1:9101", failed), &[]));
    assert!(selinux("create", "tcp_socket", "").is_about(&attempt("127.0.0.1:9101", failed), &[]));
}

#[test]
fn a_denied_file_is_no_denied_connection() {
    for (request, class) in [
        ("search", "dir"),
        ("getattr", "file"),
        ("write", "sock_file"),
    ] {
        let denial = selinux(request, class, "name=\"etc\"");
        assert!(!denial.is_about(&denied("127.0.0.1:9101"), &[]), "{class}");
    }
}

#[test]
fn what_is_denied_on_the_way_to_a_socket_is_a_part_of_its_path() {
    let attempt = denied_path("/run/my app/app.sock");
    for (request, class, rest) in [
        (
            "connectto",
            "unix_stream_socket",
            "path=2F72756E2F6D79206170702F6170702E736F636B",
        ),
        ("write", "sock_file", "name=\"app.sock\""),
        ("search", "dir", "name=\"run\""),
        ("search", "dir", "name=6D7920617070"),
        ("search", "dir", "name=\"/\""),
    ] {
        assert!(
            selinux(request, class, rest).is_about(&attempt, &[]),
            "{rest}"
        );
    }
    for (request, class, rest) in [
        (
            "connectto",
            "unix_stream_socket",
            "path=\"/run/other.sock\"",
        ),
        ("write", "sock_file", "name=\"run\""),
        ("search", "dir", "name=\"www\""),
        ("read", "file", "name=\"app.sock\""),
    ] {
        assert!(
            !selinux(request, class, rest).is_about(&attempt, &[]),
            "{rest}"
        );
    }
}

#[test]
fn an_apparmor_record_is_about_the_same_operation_and_family() {
    let denial = |operation: &str, family: &str| Denial {
        module: Module::Apparmor,
        request: Some(operation.to_owned()),
        text: format!("apparmor=\"DENIED\" operation=\"{operation}\" family=\"{family}\""),
        ..selinux("", "", "")
    };
    let attempted = denied("127.0.0.1:9101");
    assert!(denial("connect", "inet").is_about(&attempted, &[]));
    assert!(!denial("connect", "inet6").is_about(&attempted, &[]));
    assert!(!denial("open", "inet").is_about(&attempted, &[]));
    let failed = Ending::SocketFailed {
        errno: libc::EACCES,
    };
    // Its family is not known yet.
    let unmade = attempt("127.0.0.1:9101", failed);
    assert!(denial("create", "inet6").is_about(&unmade, &[]));
    assert!(!denial("connect", "inet").is_about(&unmade, &[]));
}

fn seccomp(call: i64, rest: &str) -> Denial {
    Denial {
        module: Module::Seccomp,
        request: Some(call.to_string()),
        text: format!("pid=9 comm=\"nginx\" sig=0 syscall={call} {rest} code=0x50000"),
        ..selinux("", "", "")
    }
}

#[test]
fn a_seccomp_record_is_about_the_call_that_it_names() {
    let failed = |errno| attempt("127.0.0.1:9101", Ending::SocketFailed { errno });
    let record = seccomp(libc::SYS_socket, "compat=0");
    assert!(record.is_about(&failed(libc::EAFNOSUPPORT), &[]));
    assert!(!record.is_about(&failed(libc::EMFILE), &[]));
    assert!(!seccomp(libc::SYS_socket, "compat=1").is_about(&failed(libc::EPERM), &[]));
    assert!(!seccomp(libc::SYS_uname, "").is_about(&failed(libc::EPERM), &[]));
    let unbound = |errno| attempt("127.0.0.1:9101", Ending::BindFailed { errno });
    assert!(seccomp(libc::SYS_bind, "").is_about(&unbound(libc::EPERM), &[]));
    assert!(!seccomp(libc::SYS_bind, "").is_about(&unbound(libc::EADDRINUSE), &[]));
    assert!(!record.is_about(&unbound(libc::EPERM), &[]));
}

#[test]
fn a_seccomp_record_is_about_no_connect_that_was_entered() {
    let record = seccomp(libc::SYS_connect, "compat=0");
    let attempted = denied("127.0.0.1:9101");
    assert!(!record.is_about(&attempted, &[]));
    let skipped = Observed {
        at: attempted.ended,
        fact: Fact::CallIntercepted,
    };
    assert!(record.is_about(&attempted, std::slice::from_ref(&skipped)));
    assert!(!seccomp(libc::SYS_bind, "").is_about(&attempted, &[skipped]));
}

#[test]
fn a_security_module_answers_with_no_other_error() {
    let create = selinux("create", "tcp_socket", "");
    let failed = |errno| attempt("127.0.0.1:9101", Ending::SocketFailed { errno });
    assert!(create.is_about(&failed(libc::EACCES), &[]));
    assert!(!create.is_about(&failed(libc::EMFILE), &[]));
    let bind = selinux("name_bind", "tcp_socket", "");
    let unbound = |errno| attempt("127.0.0.1:9101", Ending::BindFailed { errno });
    assert!(bind.is_about(&unbound(libc::EACCES), &[]));
    assert!(!bind.is_about(&unbound(libc::EADDRINUSE), &[]));
}
