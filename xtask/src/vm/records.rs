//! The last results of every kernel, a file each.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::kernel;
use super::results::Results;

/// The folder that they lie in.
pub struct Records(PathBuf);

impl Records {
    /// Those below the folder of the guests.
    pub fn of(folder: &Path) -> Self {
        Self(folder.join("results"))
    }

    /// Puts these in the place of older ones of the same series, such as 6.1.
    ///
    /// # Errors
    ///
    /// They cannot be written.
    pub fn keep(&self, results: &Results) -> Result<()> {
        fs::create_dir_all(&self.0)
            .with_context(|| format!("cannot create {}", self.0.display()))?;
        let series = kernel::series_of(&results.version);
        let path = self.0.join(format!("{series}.json"));
        fs::write(&path, serde_json::to_vec_pretty(results)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// All of them, the oldest kernel first.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub fn read(&self) -> Result<Vec<Results>> {
        let mut all: Vec<Results> = Vec::new();
        fs::create_dir_all(&self.0)
            .with_context(|| format!("cannot create {}", self.0.display()))?;
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            let text =
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            // Those that an older version of this wrote are left out.
            all.extend(serde_json::from_slice::<Results>(&text));
        }
        all.sort_by_cached_key(|results| kernel::numbers(&results.version));
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_kernel_of_a_series_takes_the_place_of_the_older_one() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::of(folder.path());
        for version in ["6.12.9-1", "6.1.174-1", "6.1.192-2"] {
            let results = Results {
                version: version.to_owned(),
                ..Results::default()
            };
            records.keep(&results).unwrap();
        }
        let versions: Vec<_> = records
            .read()
            .unwrap()
            .into_iter()
            .map(|one| one.version)
            .collect();
        assert_eq!(versions, ["6.1.192-2", "6.12.9-1"]);
    }
}
