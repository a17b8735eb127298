//! What is found out about a new program before it replaces anything.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::instances::Instance;
use crate::cli::failed;
use daemon::exit::Exit;
use service::exec::{self, Surroundings};
use service::version::{Identity, Relation};
use service::{binary, program};

/// More than this program will ever be, bytes.
const LARGEST: u64 = 1 << 30;

/// What was found out.
#[derive(Debug)]
pub struct Checked {
    /// What is in place.
    pub old: Option<Identity>,
    /// What is to take its place.
    pub new: Identity,
    /// What that is to the old one.
    pub relation: Relation,
    /// Whether both files are one and the same, byte for byte.
    pub same_bytes: bool,
}

/// Checks all that can be checked without a change.
///
/// # Errors
/// [`Exit::Refused`] or [`Exit::Config`] with the reason; nothing was changed.
pub fn check(from: &Path, target: &Path, instances: &[Instance], downgrade: bool) -> anyhow::Result<Checked> {
    let refused = |why: String| failed(Exit::Refused, format!("{} {why}; nothing was changed", from.display()));
    let meta = std::fs::metadata(from)
        .map_err(|e| failed(Exit::CantCreate, format!("cannot read {}: {e}; nothing was changed", from.display())))?;
    if !meta.is_file() || meta.len() > LARGEST {
        return Err(refused("is not a file of a program's size".to_owned()));
    }
    binary::fits(&head(from)?, &head(target)?).map_err(&refused)?;
    if meta.mode() & 0o111 == 0 {
        return Err(refused(format!("is not executable (`chmod +x {}`)", from.display())));
    }
    let new = program::say_version(from).map_err(&refused)?;
    let old = program::version(target).map(|(version, build)| Identity { version, build });
    let relation = Relation::of(&new, old.as_ref());
    if relation == Relation::Older && !downgrade {
        let words = relation.words(old.as_ref());
        let text = format!(
            "is {}, {words}, which may not read what that one wrote; --allow-downgrade takes it all the same",
            new.version
        );
        return Err(refused(text));
    }
    for instance in instances {
        settings(from, target, instance)?;
    }
    let same_bytes = relation == Relation::Same && same_content(from, target);
    Ok(Checked { old, new, relation, same_bytes })
}

fn head(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)
        .and_then(|file| file.take(binary::HEAD as u64).read_to_end(&mut head))
        .map_err(|e| failed(Exit::CantCreate, format!("cannot read {}: {e}; nothing was changed", path.display())))?;
    Ok(head)
}

/// Lets the new program read the settings that an instance has. What the old one would refuse as well is no reason: then it is
/// the way of asking.
fn settings(from: &Path, target: &Path, instance: &Instance) -> anyhow::Result<()> {
    let (arguments, environment) = instance.settings();
    let surroundings = Surroundings { environment: Some(environment), ..Surroundings::default() };
    let words: Vec<&str> = ["config", "check"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
    let ask = |program: &Path| exec::program_in(&surroundings, program, &words, exec::QUICK);
    let said = match ask(from) {
        Ok(output) if output.code == Some(0) => return Ok(()),
        Ok(output) => output.stderr,
        Err(error) => error.to_string(),
    };
    if !ask(target).is_ok_and(|output| output.code == Some(0)) {
        return Ok(());
    }
    let text = format!(
        "{} does not take the settings of {}, which the installed program takes; nothing was changed:\n{said}",
        from.display(),
        instance.name()
    );
    Err(failed(Exit::Config, text))
}

fn same_content(one: &Path, other: &Path) -> bool {
    use sha2::{Digest, Sha256};
    let hash = |path: &Path| {
        let (mut file, mut hasher) = (File::open(path).ok()?, Sha256::new());
        let mut buffer = vec![0; 1 << 16];
        loop {
            match file.read(&mut buffer).ok()? {
                0 => return Some(hasher.finalize()),
                n => hasher.update(&buffer[..n]),
            }
        }
    };
    program::is_same_file(one, other) || hash(one).is_some_and(|h| hash(other) == Some(h))
}
