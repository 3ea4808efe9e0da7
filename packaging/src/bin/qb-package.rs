//! Builds packages from their descriptions, makes a site's package, verifies one.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::{Parser, Subcommand};
use qb_package::{Arch, Facts, Format, Manifest, Vendor, digest, limits, verify};
use std::path::{Path, PathBuf};

#[derive(Parser)]
#[command(name = "qb-package", version, about = "Builds qb's packages, and a site's package from a vendor's")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Builds deb and rpm of every description, or of those named
    Build(Build),
    /// Makes a site's package: the vendor's and one enrolment file
    Site {
        /// The generic package as its vendor built it
        #[arg(long, value_name = "FILE")]
        vendor: PathBuf,
        /// The site's enrolment file
        #[arg(long, value_name = "FILE")]
        enroll: PathBuf,
        /// Where the site's package goes
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Proves that a site's package is the vendor's and one enrolment file
    Verify {
        /// The site's package
        file: PathBuf,
        /// The generic package as its vendor built it
        #[arg(long, value_name = "FILE")]
        vendor: PathBuf,
        /// Writes the enrolment file found in the package
        #[arg(long, value_name = "FILE")]
        enroll_out: Option<PathBuf>,
    },
}

#[derive(clap::Args)]
struct Build {
    /// Folder of the built programs: {bin} in a description
    #[arg(long, value_name = "DIR")]
    bin: PathBuf,
    /// Folder of generated manual pages and completions: {gen} in a description
    #[arg(long, value_name = "DIR")]
    r#gen: PathBuf,
    /// Where packages and SHA256SUMS go: {out} in a description
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Folder of the descriptions
    #[arg(long, value_name = "DIR", default_value = "packaging")]
    spec_dir: PathBuf,
    /// Version of the packages: {version} in a description's paths
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    version: String,
    /// Number of the packaging of that version
    #[arg(long, default_value = "1")]
    release: String,
    /// The machine, in the words of deb or rpm
    #[arg(long, default_value = "amd64", value_parser = machine)]
    arch: Arch,
    /// Date of everything in the packages, in seconds since 1970. The default is a fixed day, so that
    /// the same files give the same bytes
    #[arg(long, env = "SOURCE_DATE_EPOCH", default_value_t = 1_767_225_600)]
    source_date: u32,
    /// Packages to build; all that are described if none is named
    names: Vec<String>,
}

fn machine(text: &str) -> Result<Arch, String> {
    let called = |arch: Arch| [Format::Deb, Format::Rpm].map(|format| arch.name(format)).contains(&text);
    Arch::ALL.into_iter().find(|arch| called(*arch)).ok_or_else(|| "one of amd64, arm64".to_owned())
}

/// A file of at most `limit` bytes.
fn read(path: &Path, limit: usize) -> Result<Vec<u8>> {
    let of = || path.display().to_string();
    let len = std::fs::metadata(path).with_context(of)?.len();
    if len > limit as u64 {
        bail!("{}: more than {limit} bytes", of());
    }
    std::fs::read(path).with_context(of)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).with_context(|| path.display().to_string())
}

/// The descriptions in a folder, by name.
fn described(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        let is_description = path.extension().is_some_and(|e| e == "toml")
            && path.file_name().is_some_and(|name| name != "Cargo.toml");
        if is_description && let Some(stem) = path.file_stem().and_then(|s| s.to_str()) {
            names.push(stem.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

impl Build {
    /// Where a word of a description lies. `{out}` holds the packages built before, in the order of
    /// their names: a package may carry others.
    fn source(&self, from: &str) -> PathBuf {
        let below = |dir: &Path, rest: &str| dir.join(rest.trim_start_matches('/'));
        if let Some(rest) = from.strip_prefix("{bin}") {
            below(&self.bin, rest)
        } else if let Some(rest) = from.strip_prefix("{gen}") {
            below(&self.r#gen, rest)
        } else if let Some(rest) = from.strip_prefix("{out}") {
            below(&self.out, rest)
        } else {
            self.spec_dir.join(from)
        }
    }

    fn run(&self) -> Result<()> {
        let names = if self.names.is_empty() { described(&self.spec_dir)? } else { self.names.clone() };
        if names.is_empty() {
            bail!("{}: no description of a package (NAME.toml)", self.spec_dir.display());
        }
        std::fs::create_dir_all(&self.out).with_context(|| self.out.display().to_string())?;
        let mut sums = Vec::new();
        for name in &names {
            let path = self.spec_dir.join(format!("{name}.toml"));
            self.one(name, &path, &mut sums).with_context(|| path.display().to_string())?;
        }
        sums.sort();
        write(
            &self.out.join("SHA256SUMS"),
            sums.into_iter().map(|(_, line)| line).collect::<String>().as_bytes(),
        )
    }

    fn one(&self, name: &str, path: &Path, sums: &mut Vec<(String, String)>) -> Result<()> {
        let manifest = Manifest::parse(&String::from_utf8(read(path, limits::MANIFEST_BYTES)?)?)?;
        if manifest.name != name {
            bail!("describes {}: a description is called like its package", manifest.name);
        }
        let facts = Facts {
            version: self.version.clone(),
            release: self.release.clone(),
            arch: self.arch,
            source_date: self.source_date,
        };
        let spec = manifest.package(&facts, &mut |from| {
            read(&self.source(from), limits::PACKAGE_BYTES).map_err(|why| format!("{why:#}"))
        })?;
        for format in [Format::Deb, Format::Rpm] {
            let package = spec.build(format)?;
            let file = spec.file_name(format);
            write(&self.out.join(&file), &package)?;
            println!("{file}  {} bytes", package.len());
            sums.push((file.clone(), format!("{}  {file}\n", digest(&package))));
        }
        Ok(())
    }
}

fn open(path: &Path) -> Result<Vendor> {
    let bytes = read(path, limits::PACKAGE_BYTES)?;
    Vendor::open(Bytes::from(bytes)).with_context(|| path.display().to_string())
}

fn main() -> Result<()> {
    match Cli::parse().verb {
        Verb::Build(build) => build.run(),
        Verb::Site { vendor, enroll, out } => {
            let site = open(&vendor)?
                .with_site(&read(&enroll, limits::SITE_FILE_BYTES)?)
                .with_context(|| enroll.display().to_string())?;
            write(&out, &site.to_vec())?;
            println!("{}  {}", site.digest(), out.display());
            Ok(())
        }
        Verb::Verify { file, vendor, enroll_out } => {
            let package = read(&file, limits::PACKAGE_BYTES)?;
            let verified = verify(&package, &open(&vendor)?).with_context(|| file.display().to_string())?;
            if let Some(out) = enroll_out {
                write(&out, &verified.site_file)?;
            }
            println!("{}: the vendor's package and one enrolment file, nothing else", file.display());
            Ok(())
        }
    }
}
