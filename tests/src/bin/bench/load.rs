//! What is measured: nginx before a healthy backend, and before none.

use std::fmt;

use anyhow::{Context, Result, ensure};
use whyrefused_tests::host::{self, Host};
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::{Config, DOOR, Nginx, Upstream, path_to};
use whyrefused_tests::process::run;

/// A proxying nginx, the nginx behind it, and their namespace.
pub struct Bench {
    pub namespace: Namespace,
    pub proxy: Nginx,
    _backend: Nginx,
    wrk: std::path::PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    Healthy,
    /// Connections to the upstream are kept, and each request is logged.
    Kept,
    Refused,
}

impl Traffic {
    const fn upstream(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Kept => "kept",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Healthy => "healthy, no upstream keepalive",
            Self::Kept => "healthy, upstream keepalive and an access log",
            Self::Refused => "every attempt refused",
        })
    }
}

impl Bench {
    pub fn set(host: &Host) -> Result<Self> {
        let wrk = host::program("wrk", "wrk")?;
        let namespace = Namespace::new()?;
        // Thousands of connections a second must not run out of ports, nor be given the port that
        // they dial: one in tens of thousands would connect to itself.
        namespace.sysctl("ipv4/ip_local_port_range", "10240 65535")?;
        namespace.sysctl("ipv4/tcp_tw_reuse", "1")?;
        let backend = Nginx::start(host, &namespace, &backend())?;
        let proxy = Nginx::start(host, &namespace, &proxy())?;
        let bench = Self {
            namespace,
            proxy,
            _backend: backend,
            wrk,
        };
        for (traffic, expected) in [
            (Traffic::Healthy, 200),
            (Traffic::Kept, 200),
            (Traffic::Refused, 502),
        ] {
            let status = bench
                .proxy
                .get(&bench.namespace, traffic.upstream())?
                .status;
            ensure!(status == expected, "{traffic}: status {status}");
        }
        Ok(bench)
    }

    /// Loads nginx for some seconds.
    pub fn load(&self, traffic: Traffic, seconds: u64) -> Result<Load> {
        let before = self.worker_ticks()?;
        let url = format!("http://{DOOR}{}", path_to(traffic.upstream()));
        let mut wrk = self.namespace.command(&self.wrk);
        wrk.args(["-t1", "-c32", &format!("-d{seconds}s"), &url]);
        let output = run(&mut wrk)?;
        let text = String::from_utf8_lossy(&output.stdout);
        // wrk counts what is neither 2xx nor 3xx apart.
        let failed = text.contains("Non-2xx");
        ensure!(
            failed == (traffic == Traffic::Refused),
            "{traffic}: wrk said {text}"
        );
        let rate: f64 = text
            .lines()
            .find_map(|line| line.strip_prefix("Requests/sec:"))
            .and_then(|rate| rate.trim().parse().ok())
            .with_context(|| format!("wrk gave no rate: {text}"))?;
        let requests: f64 = text
            .lines()
            .find_map(|line| line.trim().split_once(" requests in "))
            .and_then(|(requests, _)| requests.parse().ok())
            .with_context(|| format!("wrk gave no number of requests: {text}"))?;
        let ticks = self.worker_ticks()? - before;
        Ok(Load {
            rate,
            cpu: ticks as f64 * MICROSECONDS_OF_A_TICK / requests,
        })
    }

    /// The processor time that the proxy's workers have taken, in clock ticks.
    fn worker_ticks(&self) -> Result<u64> {
        let mut ticks = 0;
        for pid in self.proxy.workers()? {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
            // The name in parentheses may hold anything; utime and stime are the 12th and 13th
            // fields behind it.
            let (_, fields) = stat.rsplit_once(") ").context("a strange stat")?;
            let times = fields.split(' ').skip(11).take(2);
            ticks += times.map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        }
        Ok(ticks)
    }
}

/// `USER_HZ` is 100 on every architecture that nginx runs on.
const MICROSECONDS_OF_A_TICK: f64 = 10_000.0;

/// What a load came to.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Requests per second.
    pub rate: f64,
    /// Processor time of nginx's workers for one request, in microseconds. It varies less than
    /// the rate where processors are shared with others.
    pub cpu: f64,
}

fn backend() -> Config {
    let http = "keepalive_requests 1000000000; server { listen 127.0.0.1:9101; location / { return 200 'ok'; } }";
    let door = ([127, 0, 0, 1], 8081).into();
    Config {
        door,
        http: http.to_owned(),
        level: "error",
        ..Config::of(Vec::new())
    }
}

fn proxy() -> Config {
    // Newer nginx keeps upstream connections unless it is told not to.
    let fresh = "proxy_http_version 1.0; proxy_set_header Connection close;";
    let healthy = Upstream::new(Traffic::Healthy.upstream(), "127.0.0.1:9101").in_location(fresh);
    let kept = Upstream::new(Traffic::Kept.upstream(), "127.0.0.1:9101")
        .with("keepalive 64;")
        .in_location(
            "proxy_http_version 1.1; proxy_set_header Connection ''; access_log /dev/null combined;",
        );
    let refused = Upstream::new(Traffic::Refused.upstream(), "127.0.0.1:9102").in_location(fresh);
    Config {
        workers: 1,
        level: "error",
        ..Config::of(vec![healthy, kept, refused])
    }
}
