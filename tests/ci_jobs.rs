//! The jobs of `docs/ci.md`: their commands are run, and the services' schemas are asked about the rest.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ampoule_loopback::{Answer, Server};

/// A job as the page shows it.
struct Job {
    service: &'static str,
    text: String,
}

impl Job {
    fn of(service: &'static str) -> Self {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ci.md");
        let page = fs::read_to_string(page).expect("the page");
        let part = page.split(&format!("## {service}\n")).nth(1).expect("a part for the service");
        let text = part.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a job");
        Self { service, text: text.to_owned() }
    }

    /// The commands of ours, in order: both services write each as an entry of a list.
    fn commands(&self) -> Vec<&str> {
        let lines = self.text.lines().map(str::trim_start);
        lines
            .filter_map(|line| line.strip_prefix("- run: ").or_else(|| line.strip_prefix("- ")))
            .filter(|line| line.starts_with("ampoule "))
            .collect()
    }
}

const JOBS: [&str; 2] = ["GitHub Actions", "GitLab"];

#[test]
fn the_jobs_fit_the_schemas_of_their_services() {
    for (service, schema) in JOBS.into_iter().zip(["github-workflows", "gitlab-ci"]) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("job.yml");
        fs::write(&file, Job::of(service).text).expect("written");
        let mut check = Command::new("check-jsonschema");
        check.arg("--builtin-schema").arg(format!("vendor.{schema}"));
        if schema == "gitlab-ci" {
            check.args(["--data-transform", "gitlab-ci"]);
        }
        let Ok(output) = check.arg(&file).output() else {
            eprintln!("skipped: no check-jsonschema");
            return;
        };
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{service}: {said}");
    }
}

/// A registry that takes everything and remembers its manifests.
fn registry() -> Server {
    Server::start(|asked| match asked.method.as_str() {
        "POST" => Answer::status(202).header("Location", "/v2/team/app/blobs/uploads/1"),
        "PUT" | "PATCH" => Answer::status(201),
        "GET" if asked.path == "/v2/" => Answer::ok(""),
        _ => Answer::status(404),
    })
}

/// A project as the jobs expect it. Its packages would need the network: `lock` is left out.
fn project(dir: &Path) {
    let image = "{ image, writeTree }: image {\n  name = \"app\";\n  root = [ (writeTree \"t\" { a.text = \"b\"; }) ];\n  \
        lint.allow = [ \"missing-entrypoint\" ];\n}\n";
    fs::write(dir.join("image.img"), image).expect("written");
}

#[test]
fn the_commands_of_the_jobs_run() {
    for service in JOBS {
        let job = Job::of(service);
        let commands = job.commands();
        assert_eq!(commands.len(), 3, "{}: {commands:?}", job.service);
        let dir = tempfile::tempdir().expect("a temporary directory");
        project(dir.path());
        let registry = registry();
        let host = format!("127.0.0.1:{}", registry.port());
        let variables = BTreeMap::from([
            ("CI_REGISTRY_IMAGE", format!("{host}/team/app")),
            ("CI_COMMIT_SHORT_SHA", "abc123".to_owned()),
        ]);
        for command in commands.into_iter().filter(|command| !command.starts_with("ampoule lock")) {
            // What GitHub puts in before a shell sees it.
            let command = command
                .replace("ghcr.io", &host)
                .replace("${{ github.repository }}", "team/app")
                .replace("${{ github.sha }}", "abc123");
            let output = Command::new("bash")
                .args(["-ec", &command])
                .current_dir(dir.path())
                .env_clear()
                .envs(&variables)
                .env(if service == "GitLab" { "GITLAB_CI" } else { "GITHUB_ACTIONS" }, "true")
                .env("HOME", dir.path())
                .env("PATH", path_with_program())
                .stdin(Stdio::null())
                .output()
                .expect("bash");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{service}: {command}: {said}");
        }
        let asked = registry.asked();
        let tagged = |asked: &&ampoule_loopback::Asked| {
            asked.method == "PUT" && asked.path == "/v2/team/app/manifests/abc123"
        };
        assert_eq!(asked.iter().filter(tagged).count(), 1, "{service}: {asked:?}");
    }
}

fn path_with_program() -> std::ffi::OsString {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_ampoule"));
    let mut dirs = vec![program.parent().expect("a directory").to_path_buf()];
    dirs.extend(["/usr/bin", "/bin"].map(PathBuf::from));
    std::env::join_paths(dirs).expect("plain names")
}
