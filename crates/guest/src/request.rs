//! What to run.

use crate::MAX_RUN;

/// Most arguments, and most variables.
pub const MAX_ENTRIES: usize = 1024;
/// Most bytes of one text of a request: what Linux takes as one argument (`MAX_ARG_STRLEN`).
pub const MAX_TEXT: usize = 128 << 10;
/// Most files of a request that a program is to leave behind.
pub const MAX_OUTPUTS: usize = 64;
/// Most bytes of a path of a file: what Linux takes (`PATH_MAX`, which counts an end).
pub const MAX_PATH: usize = 4095;

/// A file that a program is to leave behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputFile {
    /// Absolute path in the image, to a regular file on its disk.
    pub path: String,
    /// Most bytes of it.
    pub max_bytes: u64,
}

/// What the agent starts, in the words of an image's configuration (OCI image specification, `config`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunRequest {
    /// The program and its arguments. A program without a slash is looked for in the `PATH` of `env`.
    pub argv: Vec<String>,
    /// Every variable that the program gets.
    pub env: Vec<(String, String)>,
    /// `user`, `uid`, `user:group`, `uid:gid` and mixtures of them; empty for root. Names are those of the image.
    pub user: String,
    /// Absolute path in the image; made where it is missing. Empty for `/`.
    pub cwd: String,
    /// What the program reads as standard input: absolute path of a regular file in the image, whoever may read it. Empty for
    /// nothing to read.
    pub stdin: String,
    /// Files that are sent when the program has exited with 0.
    pub outputs: Vec<OutputFile>,
    /// The disk with the image's files, by its name under `/dev`; empty for none, which only a probe of the machine wants.
    pub root: String,
    /// Most bytes of memory that the program and what it starts may use.
    pub memory_bytes: u64,
    /// Most processes and threads at the same time.
    pub processes: u32,
    /// Most open files of one process.
    pub open_files: u32,
}

impl RunRequest {
    /// Whether the agent will read it: `Err` says which field is past its limit.
    ///
    /// # Errors
    /// The name of the field.
    pub fn check(&self) -> Result<(), &'static str> {
        let fits = |text: &String| text.len() <= MAX_TEXT && !text.contains('\0');
        let is_name = |name: &str| !name.is_empty() && !name.contains('=');
        if self.argv.is_empty() || self.argv.len() > MAX_ENTRIES || !self.argv.iter().all(fits) {
            return Err("argv");
        }
        let entries = self.env.len() <= MAX_ENTRIES;
        if !entries
            || !self
                .env
                .iter()
                .all(|(name, value)| is_name(name) && fits(name) && fits(value))
        {
            return Err("env");
        }
        let texts = [
            ("user", &self.user),
            ("cwd", &self.cwd),
            ("root", &self.root),
        ];
        if let Some((name, _)) = texts.into_iter().find(|(_, text)| !fits(text)) {
            return Err(name);
        }
        if !self.cwd.is_empty() && !self.cwd.starts_with('/') {
            return Err("cwd");
        }
        if !self.stdin.is_empty() && !is_path(&self.stdin) {
            return Err("stdin");
        }
        let mut paths = self.outputs.iter().map(|output| &output.path);
        if self.outputs.len() > MAX_OUTPUTS || !paths.all(|path| is_path(path)) {
            return Err("outputs");
        }
        if self.root.contains('/') {
            return Err("root");
        }
        match self.encode().len() <= MAX_RUN {
            true => Ok(()),
            false => Err("request"),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_list(&mut out, self.argv.iter().map(String::as_str));
        put_list(
            &mut out,
            self.env
                .iter()
                .flat_map(|(name, value)| [name.as_str(), value]),
        );
        put_list(
            &mut out,
            [self.user.as_str(), &self.cwd, &self.stdin, &self.root],
        );
        put_list(
            &mut out,
            self.outputs.iter().map(|output| output.path.as_str()),
        );
        for output in &self.outputs {
            out.extend(output.max_bytes.to_le_bytes());
        }
        out.extend(self.memory_bytes.to_le_bytes());
        out.extend(self.processes.to_le_bytes());
        out.extend(self.open_files.to_le_bytes());
        out
    }

    /// `None` for anything that [`Self::encode`] does not write, and for what [`Self::check`] refuses.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let input = &mut bytes;
        let argv = list(input, MAX_ENTRIES)?;
        let env = pairs(list(input, 2 * MAX_ENTRIES)?)?;
        let [user, cwd, stdin, root] = list(input, 4)?.try_into().ok()?;
        let outputs = outputs(input)?;
        let run = Self {
            argv,
            env,
            user,
            cwd,
            stdin,
            outputs,
            root,
            memory_bytes: u64::from_le_bytes(take(input)?),
            processes: u32::from_le_bytes(take(input)?),
            open_files: u32::from_le_bytes(take(input)?),
        };
        (input.is_empty() && run.check().is_ok()).then_some(run)
    }
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.len() <= MAX_PATH && !path.contains('\0')
}

fn put_list<'a>(out: &mut Vec<u8>, texts: impl IntoIterator<Item = &'a str>) {
    let start = out.len();
    out.extend([0; 4]);
    let mut count = 0_u32;
    for text in texts {
        out.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(text.as_bytes());
        count += 1;
    }
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&count.to_le_bytes());
    }
}

fn list(input: &mut &[u8], max: usize) -> Option<Vec<String>> {
    let count = usize::try_from(u32::from_le_bytes(take(input)?)).ok()?;
    (count <= max).then_some(())?;
    (0..count).map(|_| text(input)).collect()
}

fn outputs(input: &mut &[u8]) -> Option<Vec<OutputFile>> {
    let paths = list(input, MAX_OUTPUTS)?;
    let file = |path| {
        let max_bytes = u64::from_le_bytes(take(input)?);
        Some(OutputFile { path, max_bytes })
    };
    paths.into_iter().map(file).collect()
}

fn text(input: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(u32::from_le_bytes(take(input)?)).ok()?;
    let (bytes, rest) = input.split_at_checked(length)?;
    *input = rest;
    String::from_utf8(bytes.to_vec()).ok()
}

fn pairs(texts: Vec<String>) -> Option<Vec<(String, String)>> {
    let mut texts = texts.into_iter();
    let mut pairs = Vec::new();
    while let Some(name) = texts.next() {
        pairs.push((name, texts.next()?));
    }
    Some(pairs)
}

fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(*bytes)
}
