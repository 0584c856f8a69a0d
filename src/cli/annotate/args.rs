//! The flags of `annotate`.

use std::path::PathBuf;
use std::time::Duration;

use humantime_serde::re::humantime;
use paligemma_server::settings::{Settings, TaskName};
use reqwest::Url;

use super::super::exit::UsageError;
use super::super::flags::SettingsFlags;
use super::super::health;
use super::super::task_flags::{TaskFlags, has_objects};
use super::labeller::Question;
use super::outputs::Outputs;
use super::pictures::{Shard, Sources};
use super::replicas;

const EXAMPLES: &str = "\
Examples:
  # A caption for each picture in a folder and its subfolders.
  paligemma-server annotate photos --task caption --output captions.jsonl

  # Two pictures, and a question about each.
  paligemma-server annotate road.jpg street.jpg --task vqa --question \"is the road wet?\" --output wet.jsonl

  # Boxes of cars and lights that the model is rather sure of, as JSON lines, COCO JSON and YOLO labels.
  paligemma-server annotate photos --task detect --object car --object \"traffic light\" --min-score 0.5 --output found.jsonl --coco found.json --yolo labels

  # The second quarter of the pictures in a list; another three machines do the others.
  paligemma-server annotate --manifest list.txt --shard 2/4 --task caption --output captions-2.jsonl

  # Two running servers share the work; no model is loaded here.
  paligemma-server annotate photos --server http://gpu1:8080 --server http://gpu2:8080 --task ocr --output texts.jsonl

  # A batch in OpenAI's form.
  paligemma-server annotate --batch requests.jsonl --server http://gpu1:8080 --output answers.jsonl

  # Only some files; exit with 0 even when some of them are no pictures.
  paligemma-server annotate photos --include 'holiday/**/*.jpg' --keep-going --task ocr --output texts.jsonl";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folders of pictures, including their subfolders, tar archives of pictures (.tar), and single
    /// pictures.
    #[arg(value_name = "PATH", required_unless_present_any = ["manifest", "batch"])]
    pub paths: Vec<PathBuf>,
    /// Instead of PATH, a text file with a picture's path per line; - is stdin. Paths are relative
    /// to the file's folder, and lines that begin with # are comments.
    #[arg(long, value_name = "FILE", conflicts_with = "paths")]
    pub manifest: Option<PathBuf>,
    /// Only part I of N of the pictures, such as 1/4, so that N machines can share them, each with
    /// its own --output. A picture's name alone decides its part.
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    #[arg(long, value_enum, required_unless_present = "batch")]
    task: Option<TaskName>,
    /// Instead of pictures and a task, a file of requests in the form of OpenAI's batches; the answers
    /// in --output have that form, too. Needs --server.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["paths", "manifest", "task", "include", "coco", "yolo", "label_studio"])]
    pub batch: Option<PathBuf>,
    #[command(flatten)]
    pub flags: TaskFlags,
    /// The file for the labels, one JSON object per line. Pictures that it already has are skipped.
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// Of folders and archives, only files whose path in them matches, such as 'holiday/**/*.jpg', and
    /// of a manifest, only such lines; may be repeated.
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    #[command(flatten)]
    pub outputs: Outputs,
    /// Ask a running server, such as http://gpu1:8080, instead of loading a model; repeat it for
    /// several that share the work. If they need an API key, set PALIGEMMA_API_KEYS to it.
    #[arg(long = "server", value_name = "URL", value_parser = health::url)]
    pub servers: Vec<Url>,
    /// For --server: most pictures at a server at a time; default 16.
    #[arg(long, value_name = "NUMBER", requires = "servers", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub in_flight: Option<u16>,
    /// For --server: how long to wait while no server is ready, such as 30s or 10m; default 1m.
    #[arg(long, value_name = "DURATION", requires = "servers", value_parser = humantime::parse_duration)]
    pub server_wait: Option<Duration>,
    /// For --server: the name of an adapter that the servers have, to ask instead of the model.
    #[arg(long, value_name = "NAME", requires = "servers")]
    pub server_adapter: Option<String>,
    /// Exit with 0 when pictures failed. Otherwise the exit code is then 4, once all others have
    /// their label.
    #[arg(long)]
    pub keep_going: bool,
    #[command(flatten)]
    pub settings: SettingsFlags<true>,
}

/// What is to be done.
#[derive(Debug)]
pub enum Work {
    Pictures {
        task: TaskName,
        /// The same for every picture.
        prompt: String,
    },
    /// The requests of this file.
    Batch(PathBuf),
}

impl Args {
    /// Where the pictures are.
    pub fn sources(&self) -> Sources<'_> {
        Sources {
            paths: &self.paths,
            manifest: self.manifest.as_deref(),
            include: &self.include,
            shard: self.shard,
        }
    }

    /// What is to be done.
    ///
    /// # Errors
    /// Flags that are missing or wrong, or belong to another task.
    pub fn work(&self) -> Result<Work, UsageError> {
        if let Some(batch) = &self.batch {
            self.flags.refuse_others(None)?;
            return Ok(Work::Batch(batch.clone()));
        }
        let Some(task) = self.task else {
            return Err(UsageError("--task is missing".to_owned()));
        };
        if let Some(flag) = self.outputs.of_objects()
            && !has_objects(task)
        {
            return Err(UsageError(format!(
                "--{flag} is for --task detect and segment"
            )));
        }
        let prompt = self.flags.prompt(task)?;
        Ok(Work::Pictures { task, prompt })
    }

    /// The servers to ask; `None` if the model runs in this process.
    ///
    /// # Errors
    /// When flags are there for a model in this process, too.
    pub fn replicas(&self, settings: &Settings) -> Result<Option<replicas::Options>, UsageError> {
        if self.servers.is_empty() {
            return Ok(None);
        }
        if let Some(flag) = self.settings.of_own_model() {
            return Err(UsageError(format!(
                "--{flag} is for a model in this process; with --server, set it where the server starts"
            )));
        }
        Ok(Some(replicas::Options {
            servers: self.servers.clone(),
            key: settings.api_keys.first().cloned(),
            in_flight: self.in_flight.unwrap_or(16).into(),
            patience: self.server_wait.unwrap_or(Duration::from_secs(60)),
            adapter: self.server_adapter.clone(),
        }))
    }

    /// What servers are asked about each picture.
    ///
    /// # Errors
    /// Flags that are missing or wrong.
    pub fn question(&self, task: TaskName) -> Result<Question, UsageError> {
        Ok(match has_objects(task) {
            false => Question::Text,
            true => Question::Objects {
                names: self.flags.names()?,
                masks: task == TaskName::Segment,
            },
        })
    }
}
