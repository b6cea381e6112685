//! Which kernel is the newest of a series, and what is needed to boot it.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{image, initramfs, modules, vmlinux};
use crate::archive::{Archive, Record};
use crate::step;

/// The packages that make up a kernel: all in the first one before 6.19, split since.
const PACKAGES: &str = "^linux-(image|binary|modules)-[0-9][^ ]*-amd64$";
const IMAGE: &str = "linux-image-";
const ARCHITECTURE: &str = "-amd64";

/// A kernel as Debian's index describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// What `uname -r` says there.
    pub release: String,
    /// The version of its packages.
    pub version: String,
    /// The packages to unpack.
    pub packages: Vec<String>,
}

/// A kernel that is ready to boot.
pub struct Bootable {
    pub vmlinux: PathBuf,
    pub initramfs: PathBuf,
    /// An image of its modules.
    pub modules: PathBuf,
}

/// Every kernel of the archive for ordinary machines, the oldest first.
///
/// # Errors
///
/// The index cannot be read.
pub fn offered(archive: &Archive) -> Result<Vec<Kernel>> {
    let records = archive.matching(PACKAGES)?;
    let has = |package: &String, version: &String| {
        let found = records
            .iter()
            .find(|one| one.get("Package") == Some(package));
        found.is_some_and(|one| one.get("Version") == Some(version))
    };
    let mut kernels: Vec<_> = records
        .iter()
        .filter_map(kernel)
        // The archive keeps parts of kernels that it has removed.
        .filter(|one| one.packages.iter().all(|part| has(part, &one.version)))
        .collect();
    // Of one version, the build for its own release of Debian is the last: others have a `~`.
    kernels.sort_by_cached_key(|kernel| {
        let version = &kernel.version;
        (numbers(version), !version.contains('~'), version.clone())
    });
    Ok(kernels)
}

/// The newest kernel whose version begins with the numbers of `series`: 6.1 is none of 6.12.
///
/// # Errors
///
/// There is none; the message says which there are.
pub fn newest<'a>(kernels: &'a [Kernel], series: &str) -> Result<&'a Kernel> {
    let wanted = numbers(series);
    let found = kernels
        .iter()
        .rfind(|kernel| !wanted.is_empty() && numbers(&kernel.version).starts_with(&wanted));
    found.with_context(|| {
        let mut offered: Vec<_> = kernels
            .iter()
            .map(|kernel| series_of(&kernel.version))
            .collect();
        offered.dedup();
        format!(
            "Debian has no kernel {series}; it has {}",
            offered.join(" ")
        )
    })
}

impl Kernel {
    /// Downloads and unpacks it below `folder`, where that was not done yet. Nothing is
    /// installed.
    ///
    /// # Errors
    ///
    /// A package cannot be had, or does not have what kernels of Debian have.
    pub fn prepare(&self, archive: &Archive, folder: &Path) -> Result<Bootable> {
        let ready = folder.join(self.content());
        let bootable = Bootable {
            vmlinux: ready.join("vmlinux"),
            initramfs: ready.join("initramfs"),
            modules: ready.join("modules.img"),
        };
        if ready.is_dir() {
            return Ok(bootable);
        }
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let work = tempfile::tempdir_in(folder).context("cannot create a folder")?;
        let unpacked = self.unpack(archive, work.path())?;
        let done = work.path().join("done");
        fs::create_dir(&done)?;
        vmlinux::extract(&self.vmlinuz(&unpacked)?, &done.join("vmlinux"))?;
        let modules = modules::select(&unpacked, &self.release, &work.path().join("modules"))?;
        initramfs::build(&modules, &done.join("initramfs"))?;
        image::of_folder(modules.root(), &done.join("modules.img"))?;
        fs::rename(&done, &ready).with_context(|| format!("cannot create {}", ready.display()))?;
        Ok(bootable)
    }

    /// What tells these files from others: the kernel, and how they are made.
    fn content(&self) -> String {
        let mut hasher = DefaultHasher::new();
        modules::recipe(&mut hasher);
        initramfs::INIT.hash(&mut hasher);
        let Self {
            release, version, ..
        } = self;
        format!("{release}_{version}-{:016x}", hasher.finish())
    }

    fn unpack(&self, archive: &Archive, work: &Path) -> Result<PathBuf> {
        let unpacked = work.join("unpacked");
        for package in &self.packages {
            archive.download(package, &self.version, work)?;
        }
        for entry in fs::read_dir(work)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                let mut command = Command::new("dpkg-deb");
                command.arg("-x").arg(&path).arg(&unpacked);
                step::run(&format!("unpacking {}", self.release), command)?;
            }
        }
        Ok(unpacked)
    }

    fn vmlinuz(&self, unpacked: &Path) -> Result<PathBuf> {
        let places = [
            format!("boot/vmlinuz-{}", self.release),
            format!("usr/lib/modules/{}/vmlinuz", self.release),
        ];
        let found = places
            .iter()
            .map(|place| unpacked.join(place))
            .find(|path| path.is_file());
        match found {
            Some(path) => Ok(path),
            None => bail!("{:?} have none of {places:?}", self.packages),
        }
    }
}

/// The kernel of a record of its package `linux-image-…`. Kernels for clouds and real-time ones
/// are left out, and so are debug symbols.
fn kernel(record: &Record) -> Option<Kernel> {
    let name = record.get("Package")?;
    let release = name.strip_prefix(IMAGE)?;
    let number = release.strip_suffix(ARCHITECTURE)?;
    // `linux-image-6.1-amd64` is but a name for the newest of them.
    if number.ends_with("-cloud") || number.ends_with("-rt") || numbers(number).len() < 3 {
        return None;
    }
    // Since 6.19 the image is empty and depends on what was in it before.
    let parts = record.get("Depends").map_or("", String::as_str);
    let parts = parts
        .split([',', '|'])
        .filter_map(|one| one.split_whitespace().next())
        .filter(|one| {
            ["linux-binary-", "linux-modules-"]
                .iter()
                .any(|part| one.strip_prefix(part) == Some(release))
        });
    let packages = std::iter::once(name.as_str()).chain(parts);
    Some(Kernel {
        release: release.to_owned(),
        version: record.get("Version")?.clone(),
        packages: packages.map(str::to_owned).collect(),
    })
}

/// The numbers of the upstream version in `6.1.174-1`, and of `6.1`.
pub fn numbers(version: &str) -> Vec<u32> {
    let upstream = version.split(['-', '+', '~']).next().unwrap_or_default();
    upstream
        .split('.')
        .map_while(|number| number.parse().ok())
        .collect()
}

/// Such as 6.1 of `6.1.174-1`.
pub fn series_of(version: &str) -> String {
    let numbers = numbers(version);
    let first: Vec<_> = numbers.iter().take(2).map(u32::to_string).collect();
    first.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(package: &str, version: &str, depends: &str) -> Record {
        [
            ("Package", package),
            ("Version", version),
            ("Depends", depends),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
    }

    fn plain(version: &str) -> Kernel {
        Kernel {
            release: version.to_owned(),
            version: version.to_owned(),
            packages: Vec::new(),
        }
    }

    #[test]
    fn a_series_is_compared_number_by_number() {
        let kernels = ["6.1.9-1", "6.1.174-1", "6.12.9-1", "7.3.4-1"].map(plain);
        assert_eq!(newest(&kernels, "6.1").unwrap().version, "6.1.174-1");
        assert_eq!(newest(&kernels, "6").unwrap().version, "6.12.9-1");
        let error = newest(&kernels, "6.18").unwrap_err().to_string();
        assert!(error.ends_with("it has 6.1 6.12 7.3"), "{error}");
        assert!(newest(&kernels, "new").is_err());
    }

    #[test]
    fn a_split_kernel_brings_the_packages_it_was_split_into() {
        let depends = "dracut | initramfs-tools (>= 0.120), linux-base-7.3.4+deb13-amd64 (= 1), \
            linux-binary-7.3.4+deb13-amd64 (= 1), linux-base (>= 4)";
        let record = record("linux-image-7.3.4+deb13-amd64", "7.3.4-1~bpo13+1", depends);
        let kernel = kernel(&record).unwrap();
        assert_eq!(kernel.release, "7.3.4+deb13-amd64");
        assert_eq!(
            kernel.packages,
            [
                "linux-image-7.3.4+deb13-amd64",
                "linux-binary-7.3.4+deb13-amd64",
            ]
        );
    }

    #[test]
    fn kernels_for_other_machines_are_left_out() {
        for name in [
            "linux-image-6.1.0-49-cloud-amd64",
            "linux-image-6.1.0-49-rt-amd64",
            "linux-image-6.1.0-49-amd64-dbg",
            "linux-image-6.1-amd64",
            "linux-modules-7.3.4+deb13-amd64",
        ] {
            assert_eq!(kernel(&record(name, "6.1.174-1", "")), None, "{name}");
        }
    }
}
