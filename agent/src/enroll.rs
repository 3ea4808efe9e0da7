//! The enrolment file on this machine. Its form is the model's: the executor reads it as well.

use std::path::{Path, PathBuf};

use qb_model::charter::Charter;
pub use qb_model::enrolment::Enrolment;
use qb_model::enrolment::EnrolmentError;
use qb_model::limits::ENROLMENT_BYTES;

use crate::door::views::words_of;
use crate::files;

/// Why an enrolment file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] files::FileError),
    /// There is none.
    #[error(
        "there is no enrolment file {0}: make one with `qb site create NAME`, or get it from your site's administrator, then `qb-agent enroll FILE`"
    )]
    Missing(String),
    /// It is not of the right form.
    #[error("the enrolment file {path} is not valid: {why}; get it again from your site's administrator")]
    Malformed {
        /// Which file.
        path: String,
        /// What is wrong.
        why: EnrolmentError,
    },
}

/// Where an enrolment file is looked for: the administrator's wins over the package's.
pub const PLACES: [&str; 2] = ["/etc/qb/site.enroll.json", "/usr/share/qb/site.enroll.json"];
/// The copy in the state, which from the first start on says to which site a node belongs.
pub const KEPT: &str = "enrolment.json";

/// A file that was looked at.
struct Looked {
    path: PathBuf,
    /// What it holds; none if there is no such file.
    held: Result<Option<(Vec<u8>, Enrolment)>, EnrolError>,
}

/// What a node goes by.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// The site.
    pub enrolment: Enrolment,
    /// What people should know: the file names another site, or cannot be read.
    pub notice: Option<String>,
    /// What is to be kept from now on, if it is not what is kept already.
    keep: Option<Vec<u8>>,
}

/// Finds out which site a node with this state belongs to. `given` is the file that was named; without
/// one, [`PLACES`] are looked at.
///
/// # Errors
/// There is no valid file and no valid copy of one.
pub fn choose(given: Option<&Path>, state: &Path) -> Result<Chosen, EnrolError> {
    let kept = look(&state.join(KEPT));
    let places = PLACES.map(Path::new);
    let places: &[&Path] = given.as_ref().map_or(&places, std::slice::from_ref);
    // The first that is there, also if it is not valid: an administrator who put it there means it.
    let mut found = places.iter().map(|path| look(path));
    let found = found.find(|l| !matches!(l.held, Ok(None)));
    let named: Vec<String> = places.iter().map(|p| p.display().to_string()).collect();
    let missing = given.filter(|_| found.is_none()).map(|path| format!("there is no {}", path.display()));
    let mut chosen = decide(found, kept, &named.join(" nor "))?;
    if let Some(missing) = missing {
        let site = called(&chosen.enrolment);
        chosen.notice = Some(format!("{missing}; this node goes on with its copy, of site {site}"));
    }
    Ok(chosen)
}

impl Chosen {
    /// Keeps the file in the state, if that is new.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep(&self, state: &Path) -> Result<(), files::FileError> {
        match &self.keep {
            Some(bytes) => files::write_atomic(&state.join(KEPT), bytes, 0o600),
            None => Ok(()),
        }
    }
}

fn look(path: &Path) -> Looked {
    let held = match files::read_bounded(path, ENROLMENT_BYTES as u64) {
        Err(e) => Err(e.into()),
        Ok(None) => Ok(None),
        Ok(Some(bytes)) => match Enrolment::parse(&bytes) {
            Ok(enrolment) => Ok(Some((bytes, enrolment))),
            Err(why) => Err(EnrolError::Malformed { path: path.display().to_string(), why }),
        },
    };
    Looked { path: path.to_owned(), held }
}

/// The copy says to which site the node belongs; a file of that site may bring new seeds and relays.
fn decide(found: Option<Looked>, kept: Looked, named: &str) -> Result<Chosen, EnrolError> {
    let path = found.as_ref().map(|l| l.path.display().to_string()).unwrap_or_default();
    let found = found.map_or(Ok(None), |l| l.held);
    let of = |enrolment, notice, keep| Ok(Chosen { enrolment, notice, keep });
    match (found, kept.held) {
        (Ok(Some((bytes, new))), Ok(Some((old, _)))) if bytes == old => of(new, None, None),
        (Ok(Some((bytes, new))), Ok(Some((_, held)))) if new.site == held.site => of(new, None, Some(bytes)),
        (Ok(Some((_, new))), Ok(Some((_, held)))) => {
            let (theirs, ours) = (called(&new), called(&held));
            let notice = format!(
                "{path} names site {theirs}, this node belongs to {ours}: nothing changed; to move the machine: \
                 revoke the node, then `qb-agent reset`"
            );
            of(held, Some(notice), None)
        }
        (Ok(None), Ok(Some((_, held)))) => of(held, None, None),
        (Err(e), Ok(Some((_, held)))) => {
            let notice = format!("{e}; this node goes on with its copy, of site {}", called(&held));
            of(held, Some(notice), None)
        }
        (Ok(Some((bytes, new))), Ok(None)) => of(new, None, Some(bytes)),
        (Ok(Some((bytes, new))), Err(e)) => {
            // What this node holds of another site is refused where it is read.
            let notice = format!("{e}; it is made anew from {path}, of site {}", called(&new));
            of(new, Some(notice), Some(bytes))
        }
        (Err(e), _) | (Ok(None), Err(e)) => Err(e),
        (Ok(None), Ok(None)) => Err(EnrolError::Missing(named.to_owned())),
    }
}

/// A site as people compare it: `lyon (six words)`.
pub fn called(enrolment: &Enrolment) -> String {
    let name = Charter::verify(&enrolment.charter).map(|c| c.body().name.to_string());
    format!("{} ({})", name.unwrap_or_default(), words_of(&enrolment.site.0.0))
}

/// `qb-agent enroll`: checks a file, shows whose it is and puts it where the agent looks first.
///
/// # Errors
/// The file is not valid, this node belongs to another site, or the place cannot be written.
pub fn install(file: &Path, into: &Path, state: &Path) -> anyhow::Result<String> {
    let Looked { path, held } = look(file);
    let (bytes, enrolment) = held?.ok_or_else(|| EnrolError::Missing(path.display().to_string()))?;
    if let Ok(Some((_, held))) = look(&state.join(KEPT)).held
        && held.site != enrolment.site
    {
        anyhow::bail!(
            "{} names site {}, this node belongs to {}: nothing changed; to move the machine: revoke the node, then \
             `qb-agent reset`",
            path.display(),
            called(&enrolment),
            called(&held)
        );
    }
    if let Some(dir) = into.parent() {
        files::make_public_dir(dir)?;
    }
    files::write_atomic(into, &bytes, 0o644)?;
    Ok(format!(
        "site   {}\n       {}\n{} is in place; start the agent: systemctl start qb-agent",
        enrolment.site,
        called(&enrolment),
        into.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An enrolment file of a site that key `n` founded.
    fn file(n: u8, seeds: &[&str]) -> Vec<u8> {
        use qb_model::action::{KeyClass, NewKey};
        use qb_model::charter::{CharterBody, Founder};
        use qb_model::dsse::{SecretKey, Signer as _};
        let signer = SecretKey::from_bytes(&[n; 32]);
        let keys = vec![NewKey { key: signer.public_key(), class: KeyClass::Cli, expires_ms: None }];
        let body = CharterBody {
            v: 1,
            name: format!("site-{n}").parse().unwrap(),
            nonce: qb_model::Nonce16([n; 16]),
            founders: vec![Founder { admin: "mira".parse().unwrap(), name: "Mira".into(), keys }],
            recovery: None,
            relays: Vec::new(),
            issued_ms: qb_model::Millis(1_800_000_000_000),
        };
        let charter = body.sign(&[&signer]).to_bytes();
        let charter: serde_json::Value = serde_json::from_slice(&charter).unwrap();
        let form = serde_json::json!({ "v": 1, "charter": charter, "relays": [], "seeds": seeds });
        serde_json::to_vec(&form).unwrap()
    }

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("qb-enroll-{name}-{}", std::process::id()));
            files::make_dir(&dir).unwrap();
            Self(dir)
        }

        fn put(&self, name: &str, bytes: Option<&[u8]>) -> PathBuf {
            let path = self.0.join(name);
            match bytes {
                Some(bytes) => std::fs::write(&path, bytes).unwrap(),
                None => drop(std::fs::remove_file(&path)),
            }
            path
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn the_copy_says_to_which_site_a_node_belongs() {
        let dir = Dir::new("choose");
        let (one, newer, other) = (file(1, &["10.0.0.1:7444"]), file(1, &["10.0.0.2:7444"]), file(2, &[]));
        let bad = b"{".as_slice();
        // (the file, the copy) > (whose site, seeds, what is said, what is kept), or the error
        type Want<'a> = Result<(u8, usize, &'a str, Option<&'a [u8]>), &'a str>;
        type Row<'a> = (Option<&'a [u8]>, Option<&'a [u8]>, Want<'a>);
        let table: [Row; 12] = [
            (Some(&one), None, Ok((1, 1, "", Some(&one)))),
            (Some(&one), Some(&one), Ok((1, 1, "", None))),
            (None, Some(&one), Ok((1, 1, "goes on with its copy, of site site-1 (", None))),
            (Some(&newer), Some(&one), Ok((1, 1, "", Some(&newer)))),
            (Some(&other), Some(&one), Ok((1, 1, "names site site-2 (", None))),
            (Some(bad), Some(&one), Ok((1, 1, "goes on with its copy, of site site-1 (", None))),
            (Some(&other), Some(bad), Ok((2, 0, "made anew from", Some(&other)))),
            (None, None, Err("there is no enrolment file")),
            (Some(bad), None, Err("site.enroll.json is not valid")),
            (Some(bad), Some(bad), Err("site.enroll.json is not valid")),
            (None, Some(bad), Err("enrolment.json is not valid")),
            (Some(b""), None, Err("get it again from your site's administrator")),
        ];
        for (row, (found, kept, want)) in table.into_iter().enumerate() {
            let path = dir.put("site.enroll.json", found);
            let copy = dir.put(KEPT, kept);
            let chosen = choose(Some(&path), &dir.0);
            let (site, seeds, said, keep) = match (want, chosen) {
                (Err(part), Err(e)) => {
                    assert!(e.to_string().contains(part), "row {row}: {e}");
                    continue;
                }
                (Ok(want), Ok(chosen)) => {
                    assert!(
                        called(&chosen.enrolment).starts_with(&format!("site-{} (", want.0)),
                        "row {row}"
                    );
                    chosen.keep(&dir.0).unwrap();
                    let Chosen { enrolment, notice, keep } = chosen;
                    let notice = notice.unwrap_or_default();
                    assert_eq!(notice.is_empty(), want.2.is_empty(), "row {row}: {notice}");
                    assert!(notice.contains(want.2), "row {row}: {notice}");
                    (want.0, enrolment.seeds.len(), notice, keep)
                }
                (want, got) => panic!("row {row}: {want:?}, not {got:?}"),
            };
            assert_eq!(
                (seeds, keep.as_deref()),
                (usize::from(site == 1), want.unwrap().3),
                "row {row}: {said}"
            );
            if let Some(bytes) = keep {
                assert_eq!(std::fs::read(copy).unwrap(), bytes, "row {row}");
            }
        }
    }

    #[test]
    fn a_file_is_put_in_place_only_if_it_is_of_this_nodes_site() {
        let dir = Dir::new("install");
        let (into, state) = (dir.0.join("etc/qb/site.enroll.json"), dir.0.join("state"));
        let given = dir.put("given", Some(&file(1, &[])));
        let said = install(&given, &into, &state).unwrap();
        assert!(said.contains("site-1 (") && said.ends_with("systemctl start qb-agent"), "{said}");
        assert_eq!(std::fs::read(&into).unwrap(), file(1, &[]));
        choose(Some(&into), &state).unwrap();
        files::make_dir(&state).unwrap();
        choose(Some(&into), &state).unwrap().keep(&state).unwrap();
        install(&given, &into, &state).unwrap();
        let other = dir.put("given", Some(&file(2, &[])));
        let why = install(&other, &into, &state).unwrap_err().to_string();
        assert!(why.contains("nothing changed") && why.contains("qb-agent reset"), "{why}");
        assert_eq!(std::fs::read(&into).unwrap(), file(1, &[]));
        assert!(install(&dir.put("given", None), &into, &state).is_err());
    }
}
