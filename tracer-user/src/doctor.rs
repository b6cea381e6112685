//! What this host lets us observe, and what each gap costs.

mod examine;

use serde::Serialize;

pub use examine::examine;

use crate::cli::Format;
use crate::escape::visible;
use crate::event::{NginxInstance, ProbeReport};
use crate::sinks::human::instances;
use crate::terminal::{Terminal, Tone};

/// Everything that was found out about the host.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Examination {
    pub kernel: String,
    pub root: bool,
    /// Capabilities that are needed and not held, such as `CAP_SYS_ADMIN`.
    pub missing_capabilities: Vec<String>,
    /// Whether the kernel's types could be read, from itself (`/sys/kernel/btf/vmlinux`) or from a
    /// file.
    pub btf: bool,
    /// The file that was asked for, where it was one.
    pub btf_file: Option<String>,
    /// The mode of `/sys/kernel/security/lockdown`, where it can be read.
    pub lockdown: Option<String>,
    /// Why nothing can be observed, and what to do next; null where failures can be told.
    pub obstacle: Option<String>,
    /// Empty where none could be tried.
    pub probes: Vec<Probe>,
    pub nginx: Vec<NginxInstance>,
    /// What this host cannot show, in words.
    pub limits: Vec<String>,
}

/// One observation, and what it is worth.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Probe {
    pub report: ProbeReport,
    /// Without it no failure can be told at all.
    pub core: bool,
    /// What cannot be told without it.
    pub cost: String,
}

impl Examination {
    /// Whether failures can be told at all: nothing stands in the way.
    pub fn can_observe(&self) -> bool {
        self.obstacle.is_none()
    }

    /// 0 where failures can be told, else 1.
    pub fn exit_status(&self) -> u8 {
        u8::from(!self.can_observe())
    }

    /// The findings in the asked format, the last newline included.
    pub fn text(&self, format: Format, terminal: &Terminal) -> String {
        match format {
            Format::Human => self.page(terminal),
            Format::Json => self.json(),
        }
    }

    fn json(&self) -> String {
        #[derive(Serialize)]
        struct Findings<'a> {
            can_observe: bool,
            #[serde(flatten)]
            examination: &'a Examination,
        }
        let findings = Findings {
            can_observe: self.can_observe(),
            examination: self,
        };
        crate::sinks::json::text(&findings)
    }

    fn page(&self, terminal: &Terminal) -> String {
        let mut page = String::new();
        let verdict = if self.can_observe() {
            terminal.paint(
                Tone::Good,
                "failed upstream connections can be explained here",
            )
        } else {
            terminal.paint(Tone::Bad, "nothing can be observed here")
        };
        page.push_str(&format!("{verdict}\n\n"));
        let obstacle = self.obstacle.iter().map(|obstacle| visible(obstacle));
        terminal.labelled(&mut page, "why", Some(Tone::Bad), obstacle);
        self.push_host(&mut page, terminal);
        page.push('\n');
        for probe in &self.probes {
            probe.push(&mut page, terminal);
        }
        if !self.probes.is_empty() {
            page.push('\n');
        }
        terminal.labelled(&mut page, "nginx", None, instances(&self.nginx));
        let limits = self.limits.iter().map(|limit| visible(limit));
        terminal.labelled(&mut page, "limits", None, limits);
        page
    }

    fn push_host(&self, page: &mut String, terminal: &Terminal) {
        terminal.labelled(page, "kernel", None, [visible(&self.kernel)]);
        if !self.root {
            terminal.labelled(page, "user", Some(Tone::Bad), ["not root"]);
        }
        if !self.missing_capabilities.is_empty() {
            let names = visible(&self.missing_capabilities.join(", ")).into_owned();
            let line = format!("{names} are missing");
            terminal.labelled(page, "rights", Some(Tone::Bad), [line]);
        }
        if let Some(file) = &self.btf_file {
            let tone = (!self.btf).then_some(Tone::Bad);
            terminal.labelled(page, "btf", tone, [visible(file)]);
        } else if !self.btf {
            let gap = "none in /sys/kernel/btf/vmlinux";
            terminal.labelled(page, "btf", Some(Tone::Bad), [gap]);
        }
        let lockdown = self.lockdown.iter().map(|mode| visible(mode));
        terminal.labelled(page, "lockdown", None, lockdown);
    }
}

impl Probe {
    fn push(&self, page: &mut String, terminal: &Terminal) {
        let observation = visible(&self.report.observation);
        match &self.report.via {
            Some(via) => {
                let word = terminal.paint(Tone::Good, "ok");
                page.push_str(&format!("  {word}   {observation}, by {}\n", visible(via)));
            }
            None => {
                let tone = if self.core { Tone::Bad } else { Tone::Warning };
                let word = terminal.paint(tone, "no");
                page.push_str(&format!("  {word}   {observation}\n"));
                let cost = format!("without it: {}", visible(&self.cost));
                terminal.labelled(page, "", None, [cost]);
            }
        }
        let refused = self.report.unavailable.iter().map(|refused| {
            let (candidate, reason) = (visible(&refused.candidate), visible(&refused.reason));
            format!("{candidate} refused: {reason}")
        });
        terminal.labelled(page, "", Some(Tone::Faint), refused);
    }
}
