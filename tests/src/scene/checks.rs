//! What must be so of every failure, whatever its cause.

use anyhow::{Context, Result, ensure};

use super::{Expected, Scene, expected};
use crate::contract::{Failure, moment};
use crate::nginx::path_to;

/// Text with bytes that are no UTF-8 as events show them.
fn shown(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text += chunk.valid();
        for byte in chunk.invalid() {
            text += &format!("\\x{byte:02x}");
        }
    }
    text
}

/// Whether the server is written as a name, with the port of the address.
fn is_name_with_port_of(server: &str, address: &str) -> bool {
    let port = |text: &str| text.rsplit_once(':').map(|(_, port)| port.to_owned());
    let name = server.parse::<std::net::SocketAddr>().is_err() && !server.starts_with("unix:");
    name && port(server).is_some() && port(server) == port(address)
}

impl Scene {
    /// What must be so whatever the cause.
    pub(super) fn check(&self, name: &str, expected: &Expected, failure: &Failure) -> Result<()> {
        expected.check(failure)?;
        self.check_rule(expected.rule.as_ref(), failure)?;
        self.check_nginx(failure)?;
        self.check_upstream(name, failure)?;
        self.check_times(failure)?;
        let verdict = &failure.verdict;
        ensure!(!verdict.summary.is_empty(), "no summary");
        ensure!(!verdict.because.is_empty(), "no evidence");
        ensure!(
            verdict
                .ruled_out
                .iter()
                .all(|other| other.code != verdict.code),
            "the verdict is ruled out"
        );
        if expected.logged {
            self.check_request(name, failure)?;
        }
        Ok(())
    }

    fn check_nginx(&self, failure: &Failure) -> Result<()> {
        let nginx = &failure.nginx;
        ensure!(nginx.master_pid == Some(self.nginx.pid()), "wrong master");
        ensure!(
            self.nginx.workers()?.contains(&nginx.pid),
            "{} is no worker",
            nginx.pid
        );
        ensure!(
            nginx.netns == self.namespace.inode(),
            "wrong network namespace"
        );
        let config = self.nginx.config_path();
        ensure!(
            nginx.config.as_deref() == config.to_str(),
            "wrong configuration"
        );
        let exe = std::fs::read_link(format!("/proc/{}/exe", self.nginx.pid()))?;
        ensure!(nginx.exe.as_deref() == exe.to_str(), "wrong executable");
        Ok(())
    }

    fn check_upstream(&self, name: &str, failure: &Failure) -> Result<()> {
        let block = self
            .nginx
            .config()
            .upstreams
            .iter()
            .find(|upstream| upstream.name == name);
        let servers = &block
            .context("no such upstream in the configuration")?
            .servers;
        let address = failure
            .upstream
            .address
            .as_deref()
            .context("no upstream address")?;
        let server = servers
            .iter()
            .find(|server| *server == address || is_name_with_port_of(server, address))
            .with_context(|| format!("{address} is not of {servers:?}"))?;
        let family = match address {
            _ if address.starts_with("unix:") => "unix",
            _ if address.starts_with('[') => "ipv6",
            _ => "ipv4",
        };
        ensure!(failure.attempt.family == family, "wrong family");
        if let Some(remote) = &failure.attempt.remote {
            ensure!(remote == address, "remote is {remote}");
        }
        self.check_place(server, failure)
    }

    /// The named line of the configuration is the one that names the server.
    fn check_place(&self, server: &str, failure: &Failure) -> Result<()> {
        let place = failure
            .upstream
            .server
            .as_deref()
            .context("no place in the configuration")?;
        let (file, line) = place.rsplit_once(':').context("no line number")?;
        let text = shown(&std::fs::read(file)?);
        let number: usize = line.parse()?;
        let said = number
            .checked_sub(1)
            .and_then(|index| text.lines().nth(index))
            .unwrap_or_default();
        ensure!(
            said.contains(&format!("server {server} ")),
            "{place} says {said:?}"
        );
        Ok(())
    }

    fn check_times(&self, failure: &Failure) -> Result<()> {
        let (started, failed) = (moment(&failure.attempt.started)?, moment(&failure.time)?);
        let now = jiff::Timestamp::now();
        ensure!(
            self.began <= started && started <= failed && failed <= now,
            "times out of order"
        );
        let microseconds = failed.duration_since(started).as_micros();
        let difference = microseconds.abs_diff(failure.attempt.duration_us.into());
        ensure!(
            difference <= 1,
            "it took {microseconds} microseconds by its times"
        );
        Ok(())
    }

    /// nginx's own log is the witness.
    fn check_request(&self, name: &str, failure: &Failure) -> Result<()> {
        let request = failure.request.as_ref().context("no request")?;
        ensure!(
            self.nginx.errors()?.contains(&request.log_line),
            "no such line in the log"
        );
        let line = format!("GET {} HTTP/1.1", path_to(name));
        ensure!(
            request.request.as_deref() == Some(line.as_str()),
            "wrong request"
        );
        ensure!(
            request.client.as_deref() == Some("127.0.0.1"),
            "wrong client"
        );
        ensure!(
            request.server.as_deref() == Some("lab.test"),
            "wrong server"
        );
        ensure!(request.host.as_deref() == Some("lab.test"), "wrong host");
        ensure!(request.connection.is_some(), "no connection number");
        if let Some(errno) = &failure.attempt.errno {
            let logged = expected::logged_errno(&request.log_line);
            ensure!(logged.as_ref() == Some(errno), "nginx logged {logged:?}");
        }
        Ok(())
    }
}
