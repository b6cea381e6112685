use whyrefused::cli::Format;
use whyrefused::doctor::{Examination, Probe};
use whyrefused::terminal::Terminal;

use crate::events;

fn examination() -> Examination {
    let probes = events::probes()
        .into_iter()
        .enumerate()
        .map(|(number, report)| Probe {
            report,
            core: number == 0,
            cost: "ICMPv6 errors of this host are known only where they arrive in a namespace of nginx".into(),
        })
        .collect();
    Examination {
        kernel: "6.18.0".into(),
        root: true,
        missing_capabilities: Vec::new(),
        btf: true,
        btf_file: None,
        lockdown: Some("integrity".into()),
        obstacle: None,
        probes,
        nginx: events::instances(),
        limits: vec!["a native XDP drop leaves no trace".into()],
    }
}

#[test]
fn a_host_with_gaps_is_described_like_this() {
    let examination = examination();
    assert_eq!(examination.exit_status(), 0);
    insta::assert_snapshot!(
        "doctor_gaps",
        examination.text(Format::Human, &Terminal::PLAIN)
    );
    insta::assert_snapshot!(
        "doctor_json",
        examination.text(Format::Json, &Terminal::PLAIN)
    );
}

#[test]
fn a_host_without_rights_is_described_like_this() {
    let mut examination = examination();
    examination.root = false;
    examination.btf = false;
    examination.obstacle = Some("this needs root: run it with sudo".into());
    examination.missing_capabilities = vec!["CAP_SYS_ADMIN".into(), "CAP_SYSLOG".into()];
    examination.probes[0].report.via = None;
    examination.nginx.clear();
    assert_eq!(examination.exit_status(), 1);
    insta::assert_snapshot!(
        "doctor_blind",
        examination.text(Format::Human, &Terminal::PLAIN)
    );
}
