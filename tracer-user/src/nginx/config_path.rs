//! Which configuration file an nginx was started with, without running it.

use std::path::{Component, Path, PathBuf};

use crate::nginx::executable::{Build, ExecutableCache, Recognised};
use crate::nginx::processes::cmdline;
use crate::nginx::title::Title;

/// Where an nginx has its configuration. Paths are as the master sees them, in its own root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    pub file: String,
    pub prefix: String,
    /// The directives of `-g`, which stand before those of the file.
    pub directives: Option<String>,
}

/// The configuration of a master, or of a process without one; None where it can't be told.
pub fn locate(pid: u32, cache: &mut ExecutableCache) -> Option<Configuration> {
    let cmdline = cmdline(pid)?;
    let arguments = match Title::parse(&cmdline) {
        Some(title) => Arguments::from_title(&title.arguments?),
        None => Arguments::from_cmdline(&cmdline),
    };
    let build = match cache.recognise(pid) {
        Recognised::Nginx(build) => build,
        Recognised::Other | Recognised::Unreadable => return None,
    };
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let working_directory = working_directory(pid)?;
    Some(resolve(&arguments, &build, &exe, &working_directory))
}

/// The options of nginx's command line that decide on the configuration (`ngx_get_options`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Arguments {
    prefix: Option<String>,
    file: Option<String>,
    directives: Option<String>,
}

impl Arguments {
    /// From the arguments as a master's title has them, joined by spaces: a value goes on until
    /// the next word that can be an option.
    fn from_title(text: &str) -> Self {
        let words: Vec<&str> = text.split(' ').collect();
        let mut joined: Vec<String> = Vec::new();
        for word in words {
            match joined.last_mut() {
                Some(previous) if !is_option(word) && !starts_value(previous) => {
                    previous.push(' ');
                    previous.push_str(word);
                }
                _ => joined.push(word.to_owned()),
            }
        }
        Self::from_words(joined)
    }

    fn from_cmdline(cmdline: &[u8]) -> Self {
        let words = cmdline.split(|byte| *byte == 0);
        Self::from_words(words.map(|word| String::from_utf8_lossy(word).into_owned()))
    }

    fn from_words(words: impl IntoIterator<Item = String>) -> Self {
        let mut arguments = Self::default();
        let mut words = words.into_iter().skip(1);
        while let Some(word) = words.next() {
            let Some(letters) = word.strip_prefix('-') else {
                continue;
            };
            let Some(at) = letters.find(|letter| !"?hvVtTq".contains(letter)) else {
                continue;
            };
            let mut rest = letters[at..].chars();
            let slot = match rest.next() {
                Some('p') => &mut arguments.prefix,
                Some('c') => &mut arguments.file,
                Some('g') => &mut arguments.directives,
                // Their values must not be taken for options.
                Some('e' | 's') => &mut None,
                _ => continue,
            };
            *slot = match rest.as_str() {
                "" => words.next(),
                glued => Some(glued.to_owned()),
            };
        }
        arguments
    }
}

fn is_option(word: &str) -> bool {
    let letters = word.strip_prefix('-').unwrap_or_default();
    let option = letters.trim_start_matches(['?', 'h', 'v', 'V', 't', 'T', 'q']);
    !letters.is_empty() && (option.is_empty() || option.starts_with(['p', 'c', 'g', 'e', 's']))
}

/// The value of this word's last option is the next word.
fn starts_value(word: &str) -> bool {
    is_option(word) && !word.contains(' ') && word.ends_with(['p', 'c', 'g', 'e', 's']) && {
        let letters = word.trim_start_matches('-');
        letters
            .trim_start_matches(['?', 'h', 'v', 'V', 't', 'T', 'q'])
            .len()
            == 1
    }
}

/// As `ngx_process_options` does it: `-c` is relative to the prefix, the prefix to the working
/// directory.
fn resolve(
    arguments: &Arguments,
    build: &Build,
    exe: &Path,
    working_directory: &Path,
) -> Configuration {
    let name = exe.file_name().unwrap_or_default().to_string_lossy();
    let (default_prefix, default_file) = if name.starts_with("angie") {
        ("/usr/local/angie", "conf/angie.conf")
    } else {
        ("/usr/local/nginx", "conf/nginx.conf")
    };
    // `--prefix=` without a value makes the working directory the prefix.
    let prefix = arguments
        .prefix
        .clone()
        .or_else(|| build.option("--prefix"))
        .unwrap_or_else(|| default_prefix.to_owned());
    let file = arguments
        .file
        .clone()
        .or_else(|| build.option("--conf-path"))
        .unwrap_or_else(|| default_file.to_owned());
    let prefix = plain(&working_directory.join(prefix));
    Configuration {
        file: plain(&prefix.join(file)).to_string_lossy().into_owned(),
        prefix: prefix.to_string_lossy().into_owned(),
        directives: arguments.directives.clone(),
    }
}

/// Without `.` components. A `..` stays: behind a symbolic link it leads elsewhere.
fn plain(path: &Path) -> PathBuf {
    path.components()
        .filter(|component| *component != Component::CurDir)
        .collect()
}

/// The working directory as the process sees it: the kernel writes it from the root of the mount
/// namespace, which is not the root of a process in a `chroot`.
fn working_directory(pid: u32) -> Option<PathBuf> {
    let directory = std::fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    let root = std::fs::read_link(format!("/proc/{pid}/root")).ok()?;
    let inside = directory.strip_prefix(&root).unwrap_or(&directory);
    Some(Path::new("/").join(inside))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn arguments(prefix: Option<&str>, file: Option<&str>, directives: Option<&str>) -> Arguments {
        Arguments {
            prefix: prefix.map(str::to_owned),
            file: file.map(str::to_owned),
            directives: directives.map(str::to_owned),
        }
    }

    fn debian() -> Build {
        Build {
            arguments: "--prefix=/usr/share/nginx --conf-path=/etc/nginx/nginx.conf".to_owned(),
        }
    }

    fn file(arguments: &Arguments, build: &Build, exe: &str) -> String {
        resolve(arguments, build, Path::new(exe), Path::new("/srv/www")).file
    }

    #[test]
    fn options_are_read_from_the_title_of_a_master() {
        assert_eq!(
            Arguments::from_title("/usr/sbin/nginx -g daemon on; master_process on;"),
            arguments(None, None, Some("daemon on; master_process on;"))
        );
        assert_eq!(
            Arguments::from_title("nginx -p ./ -c conf/a.conf -e stderr"),
            arguments(Some("./"), Some("conf/a.conf"), None)
        );
        assert_eq!(
            Arguments::from_title("nginx -g daemon off; -c /etc/n.conf"),
            arguments(None, Some("/etc/n.conf"), Some("daemon off;"))
        );
    }

    #[test]
    fn values_may_be_glued_and_may_hold_spaces() {
        assert_eq!(
            Arguments::from_title("nginx -c/etc/n.conf -p/srv"),
            arguments(Some("/srv"), Some("/etc/n.conf"), None)
        );
        assert_eq!(
            Arguments::from_title("nginx -qc /my config/n.conf -p /x"),
            arguments(Some("/x"), Some("/my config/n.conf"), None)
        );
        assert_eq!(
            Arguments::from_title("nginx -c/my config/n.conf"),
            arguments(None, Some("/my config/n.conf"), None)
        );
    }

    #[test]
    fn the_value_of_another_option_is_no_option() {
        assert_eq!(
            Arguments::from_cmdline(b"nginx\0-e\0-c\0-g\0daemon off;\0"),
            arguments(None, None, Some("daemon off;"))
        );
    }

    #[test]
    fn a_command_line_keeps_its_words_apart() {
        assert_eq!(
            Arguments::from_cmdline(b"nginx\0-c\0/a -p b\0-g\0master_process off;\0"),
            arguments(None, Some("/a -p b"), Some("master_process off;"))
        );
        assert_eq!(Arguments::from_cmdline(b""), Arguments::default());
        assert_eq!(Arguments::from_cmdline(b"nginx\0-c"), Arguments::default());
    }

    #[test]
    fn without_options_the_build_decides() {
        let none = Arguments::default();
        assert_eq!(
            file(&none, &debian(), "/usr/sbin/nginx"),
            "/etc/nginx/nginx.conf"
        );
        assert_eq!(
            file(&none, &Build::default(), "/x/nginx"),
            "/usr/local/nginx/conf/nginx.conf"
        );
        assert_eq!(
            file(&none, &Build::default(), "/x/angie"),
            "/usr/local/angie/conf/angie.conf"
        );
    }

    #[test]
    fn a_relative_file_is_under_the_prefix_and_that_under_the_working_directory() {
        let relative = arguments(None, Some("n.conf"), None);
        assert_eq!(
            file(&relative, &debian(), "nginx"),
            "/usr/share/nginx/n.conf"
        );
        let both = arguments(Some("./"), Some("./conf/n.conf"), None);
        assert_eq!(file(&both, &debian(), "nginx"), "/srv/www/conf/n.conf");
        let up = arguments(Some("../x"), Some("n.conf"), None);
        assert_eq!(file(&up, &debian(), "nginx"), "/srv/www/../x/n.conf");
    }

    #[test]
    fn an_empty_compiled_prefix_is_the_working_directory() {
        let build = Build {
            arguments: "--prefix= --conf-path=nginx.conf".to_owned(),
        };
        assert_eq!(
            file(&Arguments::default(), &build, "nginx"),
            "/srv/www/nginx.conf"
        );
    }

    #[test]
    fn another_program_has_no_configuration() {
        let mut cache = ExecutableCache::default();
        assert_eq!(locate(std::process::id(), &mut cache), None);
    }

    proptest! {
        #[test]
        fn any_arguments_are_survived(text in "\\PC{0,80}", bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Arguments::from_title(&text);
            let _ = Arguments::from_cmdline(&bytes);
        }
    }
}
