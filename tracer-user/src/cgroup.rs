//! Which systemd unit and which container a process belongs to, by its control group.

use crate::bounded;

/// What the path of a control group tells about its processes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct CgroupPlace {
    /// The innermost systemd service or scope, such as `app.service`; a scope that merely holds
    /// a container is not one.
    pub unit: Option<String>,
    /// The innermost container: the first twelve characters of its id, or the name of an LXC
    /// container.
    pub container: Option<String>,
}

/// The place of a process; empty where `/proc/PID/cgroup` can't be read.
pub fn place(pid: u32) -> CgroupPlace {
    match bounded::read(format!("/proc/{pid}/cgroup"), 64 * 1024) {
        Ok(text) => parse(&String::from_utf8_lossy(&text)),
        Err(_) => CgroupPlace::default(),
    }
}

/// The place that the text of a `/proc/PID/cgroup` describes, for version 1, 2 and both at once.
pub fn parse(text: &str) -> CgroupPlace {
    let lines: Vec<Line> = text.lines().filter_map(Line::parse).collect();
    // systemd places units in its own hierarchy: the unified one, or `name=systemd` before that.
    // Where both exist one of them may be left at the root.
    let unit = lines
        .iter()
        .filter(|line| line.controllers == "name=systemd" || line.controllers.is_empty())
        .find_map(|line| unit_in(line.path));
    let container = lines.iter().find_map(|line| container_in(line.path));
    CgroupPlace { unit, container }
}

/// `hierarchy:controllers:path`; a path may hold colons of its own.
struct Line<'a> {
    controllers: &'a str,
    path: &'a str,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        Some(Self { controllers, path })
    }
}

fn unit_in(path: &str) -> Option<String> {
    path.rsplit('/')
        .take_while(|component| container_id(component).is_none())
        .find(|component| {
            (component.ends_with(".service") || component.ends_with(".scope"))
                && !component.starts_with("init.")
        })
        .map(str::to_owned)
}

fn container_in(path: &str) -> Option<String> {
    let components: Vec<&str> = path.split('/').collect();
    (0..components.len()).rev().find_map(|index| {
        let before = index.checked_sub(1).map(|before| components[before]);
        container_id(components[index]).or_else(|| lxc_name(components[index], before))
    })
}

/// Docker, containerd, CRI-O and podman all end a component with 64 hexadecimal digits, behind a
/// prefix of their own: `docker-ID.scope`, `cri-containerd-ID.scope`, `slice:cri-containerd:ID`.
fn container_id(component: &str) -> Option<String> {
    let name = component.strip_suffix(".scope").unwrap_or(component);
    // The monitor of a container lives outside of it.
    if name.contains("-conmon-") {
        return None;
    }
    let id = name.rsplit(['-', ':', '.']).next()?;
    let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| id[..12].to_owned())
}

/// `/lxc/NAME`, `/lxc.payload/NAME` and `/lxc.payload.NAME`.
fn lxc_name(component: &str, before: Option<&str>) -> Option<String> {
    if matches!(before, Some("lxc" | "lxc.payload")) && !component.is_empty() {
        return Some(component.to_owned());
    }
    let name = component.strip_prefix("lxc.payload.")?;
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn place(unit: Option<&str>, container: Option<&str>) -> CgroupPlace {
        CgroupPlace {
            unit: unit.map(str::to_owned),
            container: container.map(str::to_owned),
        }
    }

    fn contained() -> CgroupPlace {
        place(None, Some("0123456789ab"))
    }

    #[test]
    fn a_service_of_version_2_is_a_unit() {
        assert_eq!(
            parse("0::/system.slice/app.service\n"),
            place(Some("app.service"), None)
        );
        assert_eq!(
            parse("0::/system.slice/app.service/worker-3\n"),
            place(Some("app.service"), None)
        );
    }

    #[test]
    fn the_root_is_no_place() {
        assert_eq!(parse("0::/\n"), place(None, None));
        assert_eq!(parse("0::/init.scope\n"), place(None, None));
        assert_eq!(parse(""), place(None, None));
    }

    #[test]
    fn version_1_names_the_unit_in_the_hierarchy_of_systemd() {
        let text = "12:pids:/system.slice/app.service\n\
                    3:cpu,cpuacct:/\n\
                    1:name=systemd:/system.slice/app.service\n";
        assert_eq!(parse(text), place(Some("app.service"), None));
    }

    #[test]
    fn a_hybrid_host_may_leave_the_unified_hierarchy_at_its_root() {
        let text = "11:memory:/\n1:name=systemd:/system.slice/app.service\n0::/\n";
        assert_eq!(parse(text), place(Some("app.service"), None));
        let text = "1:name=systemd:/\n0::/system.slice/app.service\n";
        assert_eq!(parse(text), place(Some("app.service"), None));
    }

    #[test]
    fn a_user_unit_is_named_before_the_manager_that_runs_it() {
        let text = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/dev.service\n";
        assert_eq!(parse(text), place(Some("dev.service"), None));
        let text = "0::/user.slice/user-1000.slice/session-2.scope\n";
        assert_eq!(parse(text), place(Some("session-2.scope"), None));
    }

    #[test]
    fn containers_are_found_in_every_runtimes_form() {
        for path in [
            format!("/docker/{ID}"),
            format!("/system.slice/docker-{ID}.scope"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
            format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope"),
            format!("/kubepods/burstable/pod2d3a9f3c-0c9f-4a50-8e0a-111111111111/{ID}"),
            format!("/kubepods.slice/kubepods-pod2d3a_9f3c.slice/cri-containerd-{ID}.scope"),
            format!("/kubepods.slice/kubepods-besteffort.slice/crio-{ID}.scope"),
            format!("/system.slice/containerd.service/kubepods-podx.slice:cri-containerd:{ID}"),
            format!("/../../docker/{ID}"),
        ] {
            let expected = CgroupPlace {
                unit: None,
                ..contained()
            };
            assert_eq!(parse(&format!("0::{path}\n")), expected, "{path}");
            assert_eq!(
                parse(&format!("9:memory:{path}\n1:name=systemd:{path}\n")),
                expected,
                "{path}"
            );
        }
    }

    #[test]
    fn the_innermost_of_nested_containers_counts() {
        let outer = "f".repeat(64);
        assert_eq!(
            parse(&format!("0::/docker/{outer}/docker/{ID}\n")),
            contained()
        );
    }

    #[test]
    fn a_unit_inside_a_container_is_told_with_it() {
        assert_eq!(
            parse(&format!(
                "0::/system.slice/docker-{ID}.scope/system.slice/app.service\n"
            )),
            place(Some("app.service"), Some("0123456789ab"))
        );
    }

    #[test]
    fn the_monitor_of_a_container_is_not_inside_it() {
        let text = format!("0::/machine.slice/libpod-conmon-{ID}.scope\n");
        assert_eq!(parse(&text).container, None);
    }

    #[test]
    fn lxc_containers_have_names() {
        for path in ["/lxc/web", "/lxc.payload/web", "/lxc.payload.web/x"] {
            assert_eq!(
                parse(&format!("0::{path}\n")).container.as_deref(),
                Some("web"),
                "{path}"
            );
        }
        assert_eq!(parse("0::/lxc.monitor.web\n").container, None);
    }

    #[test]
    fn our_own_place_can_be_read() {
        assert_eq!(super::place(u32::MAX), CgroupPlace::default());
        let own = super::place(std::process::id());
        assert_eq!(own, super::place(std::process::id()));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[0-9:/a-f.x\\-\n ()]{0,200}") {
            let _ = parse(&text);
        }
    }
}
