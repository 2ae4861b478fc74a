//! `worldcompute image`: container images, in the running daemon, or in the home where none runs.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_node::api::Client;
use worldcompute_node::image::{Inspection, Listed, Progress, Removed};
use worldcompute_node::{Config, ImageRequest, ImageSource, Images, OpenHome};

use super::Context;
use super::daemon::StopSignal;
use super::donor::is_running;
use crate::args::{ImageCommand, ImageImportArgs};
use crate::output::Output;

/// Runs one image command.
pub async fn run(context: &Context, command: ImageCommand) -> Result<ExitCode> {
    let mut stop = StopSignal::listen(false)?;
    stop.unless_told(dispatch(context, command)).await?;
    Ok(ExitCode::SUCCESS)
}

async fn dispatch(context: &Context, command: ImageCommand) -> Result<()> {
    match command {
        ImageCommand::Import(args) => import(context, args).await,
        ImageCommand::List => list(context).await,
        ImageCommand::Inspect { image } => inspect(context, image).await,
        ImageCommand::Rm { image } => remove(context, image).await,
    }
}

/// Who has the images: a content store is one process's.
enum Keeper {
    Daemon(Client),
    /// Held for its lock, next to what it guards.
    Home(Images, Box<OpenHome>),
}

impl Keeper {
    async fn find(context: &Context) -> Result<Self> {
        let client = context.client()?;
        if is_running(&client).await? {
            return Ok(Self::Daemon(client));
        }
        let home = context.home()?;
        let config = Config::load(&home.config())?;
        let home = home.open(&config)?;
        Ok(Self::Home(Images::open(&home, &config)?, Box::new(home)))
    }

    /// The same for what is there: a home is not made to find nothing in it.
    async fn existing(context: &Context) -> Result<Option<Self>> {
        match context.home()?.is_enrolled() {
            true => Self::find(context).await.map(Some),
            false => Ok(None),
        }
    }
}

async fn import(context: &Context, args: ImageImportArgs) -> Result<()> {
    let request = request(args)?;
    let keeper = Keeper::find(context).await?;
    let bar = Arc::new(Bar::new(context.output));
    let shown = bar.clone();
    let imported = match keeper {
        Keeper::Daemon(client) => client.import_image(&request, |step| shown.show(step)).await,
        Keeper::Home(images, _home) => {
            let show = move |step| {
                shown.show(step);
                Ok(())
            };
            images.import(request, show).await
        }
    };
    bar.0.finish_and_clear();
    context.output.data(&imported?, imported_in_words)
}

async fn list(context: &Context) -> Result<()> {
    let images = match Keeper::existing(context).await? {
        Some(Keeper::Daemon(client)) => client.images().await?,
        Some(Keeper::Home(images, _home)) => images.list(),
        None => Vec::new(),
    };
    context
        .output
        .data(&images, |images| match images.as_slice() {
            [] => "no images".to_owned(),
            images => images.iter().map(line).collect::<Vec<_>>().join("\n"),
        })
}

async fn inspect(context: &Context, image: String) -> Result<()> {
    let inspection = match Keeper::existing(context).await? {
        Some(Keeper::Daemon(client)) => client.inspect_image(&image).await?,
        Some(Keeper::Home(images, _home)) => images.inspect(image).await?,
        None => return Err(unknown(&image)),
    };
    context.output.data(&inspection, inspection_in_words)
}

async fn remove(context: &Context, image: String) -> Result<()> {
    let removed = match Keeper::existing(context).await? {
        Some(Keeper::Daemon(client)) => client.remove_image(&image).await?,
        Some(Keeper::Home(images, _home)) => images.remove(image).await?,
        None => return Err(unknown(&image)),
    };
    context.output.data(&removed, removed_in_words)
}

/// A path is read by whoever has the images, who may be elsewhere in the file system.
fn request(args: ImageImportArgs) -> Result<ImageRequest> {
    let path = Path::new(&args.source);
    let source = match path.symlink_metadata() {
        Ok(_) => ImageSource::Path(
            std::path::absolute(path)
                .map_err(|error| Fault::io("find the current directory", &error))?,
        ),
        Err(_) => ImageSource::Registry(args.source),
    };
    Ok(ImageRequest {
        source,
        select: args.select,
        name: args.name,
        platform: args.platform,
        allow_insecure_http: args.allow_insecure_http,
    })
}

/// Shows a person how far an import has come.
struct Bar(ProgressBar);

impl Bar {
    fn new(output: Output) -> Self {
        let target = match output.is_watched() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes}  {msg}") {
            bar.set_style(style);
        }
        Self(bar)
    }

    fn show(&self, step: Progress) {
        self.0.set_length(step.total);
        self.0.set_position(step.bytes);
        self.0
            .set_message(format!("layer {} of {}", step.layer, step.layers));
    }
}

fn imported_in_words(image: &Listed) -> String {
    [
        format!("imported {}", names(&image.names)),
        format!("image    oci+cid:{}", image.cid),
        format!("for      {}", image.platform),
        format!("layers   {}, {} bytes", image.layer_count, image.size),
    ]
    .join("\n")
}

fn line(image: &Listed) -> String {
    format!(
        "{}  {}  {:>12}  {}",
        image.cid,
        image.platform,
        image.size,
        names(&image.names)
    )
}

fn names(names: &[String]) -> String {
    match names {
        [] => "(no name)".to_owned(),
        names => names.join(", "),
    }
}

/// Whoever made the image chose its words, and a terminal would do what they say: they are shown as JSON, escaped.
fn inspection_in_words(it: &Inspection) -> String {
    let words = |words: &[String]| {
        words
            .iter()
            .map(|word| quoted(word))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let mut lines = vec![
        format!("image       oci+cid:{}", it.listed.cid),
        format!("digest      {}", it.digest),
        format!("names       {}", names(&it.listed.names)),
        format!("platform    {}", it.listed.platform),
        format!(
            "created     {}",
            it.listed
                .created
                .as_deref()
                .map_or_else(|| "unknown".to_owned(), quoted)
        ),
        format!("imported    {}", it.listed.imported_at),
        format!("entrypoint  {}", words(&it.entrypoint)),
        format!("command     {}", words(&it.cmd)),
        format!("user        {}", quoted(&it.user)),
        format!("directory   {}", quoted(&it.cwd)),
    ];
    lines.extend(
        it.env
            .iter()
            .map(|variable| format!("variable    {}", quoted(variable))),
    );
    lines.extend(it.layers.iter().map(|layer| {
        format!(
            "layer       {}  {} bytes, {} unpacked",
            layer.cid, layer.size, layer.unpacked
        )
    }));
    lines.push(format!(
        "verified    {} bytes, {} unpacked",
        it.listed.size, it.unpacked
    ));
    lines.join("\n")
}

fn quoted(word: &str) -> String {
    format!("\"{}\"", word.escape_default())
}

fn removed_in_words(removed: &Removed) -> String {
    match removed.image {
        true => format!("removed {} {}", removed.cid, names(&removed.names)),
        false => format!(
            "removed the name {}; {} has others",
            names(&removed.names),
            removed.cid
        ),
    }
}

fn unknown(image: &str) -> Fault {
    Fault::new(
        Category::InvalidInput,
        "image_unknown",
        format!("no image {image:?} on this node"),
    )
    .hint("see 'worldcompute image list', or import it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_out_of_an_image_tells_the_terminal_what_to_do() {
        let word = quoted("evil\x1b[2J\"\r\nuser  root\u{202e}");
        assert!(
            word.chars().all(|c| c == ' ' || c.is_ascii_graphic()),
            "{word:?}"
        );
    }
}
