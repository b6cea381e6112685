//! What every finding about a Unix socket tells of what was read.

use crate::case::{Death, FileKind, Relation, UnixCandidate, UnixSocket};
use crate::diagnose::finding::Finding;
use crate::diagnose::unix_socket::subject::Subject;
use crate::diagnose::{listener_ended, wording};

impl Subject<'_> {
    /// Adds the symbolic links on the way, and what could not be read.
    pub fn tell(&self, mut finding: Finding) -> Finding {
        for step in self.walk().iter().flat_map(|walk| &walk.steps) {
            if let FileKind::Symlink(target) = &step.kind {
                let words = format!("{} is a symbolic link to {target}", step.path);
                finding = finding.because(words);
            }
        }
        if self.walk().is_some_and(|walk| walk.other_root) {
            finding = finding.because(
                "the worker has a root directory or mount namespace of its own; the path was walked there",
            );
        }
        for what in self.unread() {
            finding = finding.missing(what);
        }
        finding
    }

    /// Adds who listened there last and how that ended.
    pub fn tell_ended(&self, finding: Finding) -> Finding {
        let Some(ended) = self.facts.and_then(|facts| facts.ended.as_ref()) else {
            return finding;
        };
        let who = wording::owner(&ended.socket.owners);
        let when = wording::relative(self.case, ended.at);
        let words = if ended.witnessed {
            format!(
                "{who}, which listened there, {}, {when}",
                listener_ended::how(&ended.death)
            )
        } else {
            format!("{who} was last seen to listen there {when}, and lives on")
        };
        let finding = finding
            .because_at(ended.at, words)
            .with(listener_ended::sender(&ended.death), |finding, sender| {
                finding.because_at(ended.at, format!("{sender} sent that signal"))
            });
        let mut finding =
            listener_ended::remedy(finding, ended.socket.owners.first(), &ended.death);
        finding.unix_listener = Some(ended.socket.clone());
        finding.ended = Some((ended.at, ended.death.clone()));
        finding
    }

    /// The same in the words of a summary.
    pub fn ended_clause(&self) -> Option<String> {
        let ended = self.facts?.ended.as_ref()?;
        let who = wording::owner(&ended.socket.owners);
        Some(match ended.death {
            Death::Closed => format!("{who} listened there, closed the socket and lives on"),
            _ => format!(
                "{who} listened there until it {}",
                listener_ended::how(&ended.death)
            ),
        })
    }

    /// Adds the listeners that may have been meant.
    pub fn tell_candidates(&self, mut finding: Finding) -> Finding {
        let Some(facts) = self.facts else {
            return finding;
        };
        for candidate in &facts.candidates {
            finding = finding.because(self.candidate(candidate));
        }
        finding.unix_candidates = facts.candidates.iter().map(|c| c.socket.clone()).collect();
        finding
    }

    /// The best candidate, where it is the dialled socket itself, out of the worker's reach.
    pub fn same_elsewhere(&self) -> Option<&UnixCandidate> {
        self.facts?.candidates.iter().find(|candidate| {
            matches!(
                candidate.relation,
                Relation::SamePathElsewhere { .. } | Relation::Unlinked
            )
        })
    }

    fn candidate(&self, candidate: &UnixCandidate) -> String {
        let who = listens(&candidate.socket);
        match &candidate.relation {
            Relation::SamePathElsewhere {
                other_mounts,
                mounted,
            } => {
                let place = if *other_mounts {
                    "in another mount namespace"
                } else {
                    "below another root directory"
                };
                let mounted = mounted.as_ref().map_or_else(String::new, |directory| {
                    format!(", which has {directory} of the file system mounted there")
                });
                format!("{who}, as it sees the file system: {place}{mounted}")
            }
            Relation::Unlinked => {
                format!("{who}, and the file of that socket has been removed or replaced since")
            }
            Relation::SameName => format!("{who}, a socket of the same name"),
            Relation::SimilarName => format!("{who}, a name like the dialled one"),
            Relation::Abstract => {
                format!(
                    "{who}, an abstract socket; nginx takes `@` for the beginning of a file name"
                )
            }
            Relation::OtherNetns => format!(
                "{who} in {}; abstract names belong to one network namespace",
                wording::namespace(self.case, candidate.socket.netns)
            ),
        }
    }
}

/// Who listens on a socket, and where.
pub(super) fn listens(socket: &UnixSocket) -> String {
    format!(
        "{} listens on {}",
        wording::owner(&socket.owners),
        wording::unix_path(&socket.name)
    )
}
