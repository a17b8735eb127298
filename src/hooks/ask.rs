//! What programs that hooks name may be run to find out how they are, and how they are run.
//!
//! A project's settings come with the project, from whoever wrote it: nothing that they name is run, and nothing in the
//! project's folder, whoever names it. What the user's own settings name is run away from the folder that the user is in, with
//! a deadline; by root only where nobody but root can change the settings and the program.

use std::path::{Path, PathBuf};
use std::time::Duration;

use service::exec::{self, ExecError, Output, Surroundings};
use service::trust::{self, Weak};

/// How long a program may take to tell its version, or a Python to import a package.
const ANSWER: Duration = Duration::from_secs(5);
/// What Python is asked. It runs isolated (`-I`): without the current folder, the variables and the user's packages, of which
/// only the last are put back, and not root's.
const IMPORT: &str = "import os, site; os.geteuid() and site.addsitedir(site.getusersitepackages()); \
                      import claude_mpm; print(claude_mpm.__version__)";

/// Why a program is not run.
#[derive(Debug, thiserror::Error)]
pub enum Unasked {
    /// A project names it.
    #[error("only the project's settings name it, and nothing of theirs is run")]
    OfProject,
    /// It is the project's.
    #[error("it is in the project's folder, and nothing there is run")]
    InProject,
    /// Somebody could make root run anything.
    #[error("root does not run it: {0}")]
    Weak(#[from] Weak),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// It was not run.
    #[error(transparent)]
    Unasked(#[from] Unasked),
    /// It was run in vain.
    #[error("{0}")]
    Failed(String),
}

impl From<ExecError> for NoAnswer {
    fn from(error: ExecError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Asks the programs that hooks name.
#[derive(Debug, Clone, Default)]
pub struct Asker {
    /// The user's own settings of Claude Code.
    pub settings: Option<PathBuf>,
    /// The user's home.
    pub home: Option<PathBuf>,
    /// The project's folder.
    pub project: Option<PathBuf>,
    /// Whether this process is root.
    pub is_root: bool,
}

impl Asker {
    /// Whether these settings are the user's own, and not such as a project brings.
    pub fn is_users(&self, settings: &Path) -> bool {
        self.settings.as_deref() == Some(settings) && !self.is_in_project(settings)
    }

    /// Whether `program` may be run, which settings of the user's name or not.
    fn may(&self, program: &Path, is_users: bool) -> Result<(), Unasked> {
        let Some(settings) = self.settings.as_deref().filter(|_| is_users) else { return Err(Unasked::OfProject) };
        if self.is_in_project(program) {
            return Err(Unasked::InProject);
        }
        if self.is_root {
            trust::only_root_changes(settings)?;
            trust::only_root_changes(program)?;
        }
        Ok(())
    }

    /// Whether the program, by its name or behind links, is in the project's folder. A folder that the home is in is not
    /// one that a project came with.
    fn is_in_project(&self, program: &Path) -> bool {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let Some(project) = self.project.as_deref().map(real) else { return false };
        if self.home.as_deref().map(real).is_some_and(|home| home.starts_with(&project)) {
            return false;
        }
        let named = program.parent().map(real).unwrap_or_default();
        named.starts_with(&project) || real(program).starts_with(&project)
    }

    fn run(&self, program: &Path, is_users: bool, arguments: &[&str]) -> Result<Output, NoAnswer> {
        self.may(program, is_users)?;
        let surroundings = Surroundings { directory: Some("/".into()), ..Surroundings::default() };
        Ok(exec::program_in(&surroundings, program, arguments, ANSWER)?)
    }

    /// What the program says to `--version`.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub fn version(&self, program: &Path, is_users: bool) -> Result<String, NoAnswer> {
        Ok(self.run(program, is_users, &["--version"])?.success()?)
    }

    /// The version of claude_mpm that a Python imports.
    ///
    /// # Errors
    /// [`NoAnswer`], with what Python says last.
    pub fn import(&self, python: &Path, is_users: bool) -> Result<String, NoAnswer> {
        // -B: looking leaves no compiled files.
        let output = self.run(python, is_users, &["-I", "-B", "-c", IMPORT])?;
        if output.code == Some(0) {
            return Ok(output.stdout.lines().last().unwrap_or_default().chars().take(40).collect());
        }
        let last = output.stderr.lines().last().unwrap_or("it failed without a word");
        Err(NoAnswer::Failed(last.chars().take(200).collect()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A home with settings, a project elsewhere, and in both a program that tells how it was run.
    struct World {
        dir: tempfile::TempDir,
        asker: Asker,
    }

    impl World {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let at = |name: &str| dir.path().join(name);
            for folder in ["home/bin", "project/bin"] {
                std::fs::create_dir_all(at(folder)).unwrap();
                let program = at(folder).join("python3");
                std::fs::write(&program, "#!/bin/sh\necho \"$PWD $1\"\n").unwrap();
                std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
            }
            let asker = Asker {
                settings: Some(at("home/settings.json")),
                home: Some(at("home")),
                project: Some(at("project")),
                is_root: false,
            };
            Self { dir, asker }
        }

        fn at(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn import(&self, program: &str, is_users: bool) -> Result<String, NoAnswer> {
            self.asker.import(&self.at(program), is_users)
        }
    }

    #[test]
    fn users_python_runs_isolated_and_away() {
        let world = World::new();
        assert_eq!(world.import("home/bin/python3", true).unwrap(), "/ -I");
        assert_eq!(world.asker.version(&world.at("home/bin/python3"), true).unwrap(), "/ --version\n");
    }

    #[test]
    fn nothing_of_a_project_is_run() {
        let mut world = World::new();
        symlink(world.at("project/bin/python3"), world.at("home/bin/out")).unwrap();
        symlink(world.at("home/bin/python3"), world.at("project/bin/in")).unwrap();
        symlink(world.at("project/bin"), world.at("home/linked")).unwrap();
        for program in ["home/bin/python3", "project/bin/python3"] {
            let refused = world.import(program, false);
            assert!(matches!(refused, Err(NoAnswer::Unasked(Unasked::OfProject))), "{program}: {refused:?}");
        }
        for program in ["project/bin/python3", "home/bin/out", "project/bin/in", "home/linked/python3"] {
            let refused = world.import(program, true);
            assert!(matches!(refused, Err(NoAnswer::Unasked(Unasked::InProject))), "{program}: {refused:?}");
        }
        assert!(!world.asker.is_users(&world.at("project/.claude/settings.json")));
        assert!(world.asker.is_users(&world.at("home/settings.json")));
        // A variable that a project can set may name its own settings as the user's.
        world.asker.settings = Some(world.at("project/settings.json"));
        assert!(!world.asker.is_users(&world.at("project/settings.json")));
        // Whoever works in the home directory or above has no other's project there.
        world.asker.project = Some(world.at(""));
        assert!(world.import("home/bin/python3", true).is_ok());
    }

    #[test]
    fn root_runs_nothing_that_others_can_change() {
        let mut world = World::new();
        world.asker.is_root = true;
        let refused = world.import("home/bin/python3", true);
        assert!(matches!(refused, Err(NoAnswer::Unasked(Unasked::Weak(_)))), "{refused:?}");
    }
}
