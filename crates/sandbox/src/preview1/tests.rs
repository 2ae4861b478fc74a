use proptest::prelude::*;

use super::process::MAX_RANDOM;
use super::*;
use crate::request::MAX_PATH;
use crate::request::tests::sample;
use crate::world::{NodeId, Printer};

const ROOT: u32 = 3;
const READ: u64 = 1 << 1;
const WRITE: u64 = 1 << 6;
const CREATE: u32 = 1;

/// A guest's memory and world. Paths are put at 1000, buffer lists at 2000, bytes at 3000, results at 5000.
struct Machine {
    memory: Vec<u8>,
    world: World,
}

impl Machine {
    fn new() -> Self {
        let mut world = World::new(&sample(), 42);
        world
            .files
            .lay_input("/in/data", b"input".as_slice().into())
            .unwrap();
        Self {
            memory: vec![0; 65536],
            world,
        }
    }

    fn guest(&mut self) -> Guest<'_> {
        Guest {
            memory: &mut self.memory,
            world: &mut self.world,
        }
    }

    fn put(&mut self, at: usize, bytes: &[u8]) -> u32 {
        self.memory[at..at + bytes.len()].copy_from_slice(bytes);
        at as u32
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.memory[at..at + 4].try_into().unwrap())
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.memory[at..at + 8].try_into().unwrap())
    }

    fn path(&mut self, path: &str) -> (u32, u32) {
        (self.put(1000, path.as_bytes()), path.len() as u32)
    }

    fn open(&mut self, path: &str, how: u32, rights: u64, flags: u32) -> Result<u32> {
        let (path, length) = self.path(path);
        self.guest()
            .path_open(ROOT, 0, path, length, how, rights, 0, flags, 5000)?;
        Ok(self.u32(5000))
    }

    fn iovecs(&mut self, buffers: &[(u32, u32)]) -> u32 {
        for (index, (buffer, length)) in buffers.iter().enumerate() {
            self.put(2000 + index * 8, &buffer.to_le_bytes());
            self.put(2004 + index * 8, &length.to_le_bytes());
        }
        2000
    }

    fn write(&mut self, fd: u32, bytes: &str) -> Result<u32> {
        self.put(3000, bytes.as_bytes());
        let iovecs = self.iovecs(&[(3000, bytes.len() as u32)]);
        self.guest().fd_write(fd, iovecs, 1, 5000)?;
        Ok(self.u32(5000))
    }

    fn read(&mut self, fd: u32) -> Result<String> {
        // Two buffers, the first of three bytes.
        let iovecs = self.iovecs(&[(3000, 3), (3003, 100)]);
        self.guest().fd_read(fd, iovecs, 2, 5000)?;
        let read = self.u32(5000) as usize;
        Ok(String::from_utf8(self.memory[3000..3000 + read].to_vec()).unwrap())
    }

    fn seek(&mut self, fd: u32, delta: i64, whence: u32) -> Result<u64> {
        self.guest().fd_seek(fd, delta, whence, 5000)?;
        Ok(self.u64(5000))
    }

    /// The names and cookies of one `fd_readdir`, whole entries only.
    fn list(&mut self, fd: u32, length: u32, cookie: u64) -> Vec<(String, u64)> {
        self.guest()
            .fd_readdir(fd, 3000, length, cookie, 5000)
            .unwrap();
        let used = self.u32(5000) as usize;
        let mut rest = &self.memory[3000..3000 + used];
        let mut entries = Vec::new();
        while rest.len() > 24 {
            let size = u32::from_le_bytes(rest[16..20].try_into().unwrap()) as usize;
            let Some(name) = rest.get(24..24 + size) else {
                break;
            };
            let cookie = u64::from_le_bytes(rest[..8].try_into().unwrap());
            entries.push((String::from_utf8(name.to_vec()).unwrap(), cookie));
            rest = &rest[24 + size..];
        }
        entries
    }
}

fn errno<T: std::fmt::Debug>(result: Result<T>) -> Errno {
    match result.unwrap_err() {
        Refusal::Errno(errno) => errno,
        Refusal::Stop(stop) => panic!("{stop}"),
    }
}

#[test]
fn a_file_is_written_sought_and_read() {
    let mut machine = Machine::new();
    let fd = machine.open("out/file", CREATE, READ | WRITE, 0).unwrap();
    assert_eq!(machine.write(fd, "hello, world").unwrap(), 12);
    assert_eq!(machine.read(fd).unwrap(), "");
    assert_eq!(machine.seek(fd, -5, 2).unwrap(), 7);
    assert_eq!(machine.read(fd).unwrap(), "world");
    assert_eq!(machine.seek(fd, 0, 0).unwrap(), 0);
    assert_eq!(machine.seek(fd, 3, 1).unwrap(), 3);
    assert_eq!(errno(machine.seek(fd, -4, 1)), Errno::Inval);
    assert_eq!(errno(machine.seek(fd, 0, 3)), Errno::Inval);
    machine.guest().fd_tell(fd, 5000).unwrap();
    assert_eq!(machine.u64(5000), 3);
}

#[test]
fn reading_and_writing_in_place_leave_the_position_alone() {
    let mut machine = Machine::new();
    let fd = machine.open("out/file", CREATE, READ | WRITE, 0).unwrap();
    machine.write(fd, "abcdef").unwrap();
    machine.put(3000, b"XY");
    let iovecs = machine.iovecs(&[(3000, 2)]);
    machine.guest().fd_pwrite(fd, iovecs, 1, 1, 5000).unwrap();
    machine.guest().fd_pread(fd, iovecs, 1, 4, 5000).unwrap();
    assert_eq!(&machine.memory[3000..3002], b"ef");
    assert_eq!(machine.seek(fd, 0, 1).unwrap(), 6);
    machine.seek(fd, 0, 0).unwrap();
    assert_eq!(machine.read(fd).unwrap(), "aXYdef");
}

#[test]
fn appending_goes_to_the_end_wherever_the_position_is() {
    let mut machine = Machine::new();
    let fd = machine
        .open("out/file", CREATE, READ | WRITE, files::FLAG_APPEND)
        .unwrap();
    machine.write(fd, "one").unwrap();
    machine.seek(fd, 0, 0).unwrap();
    machine.write(fd, "two").unwrap();
    machine.guest().fd_fdstat_set_flags(fd, 0).unwrap();
    machine.seek(fd, 0, 0).unwrap();
    machine.write(fd, "ONE").unwrap();
    machine.seek(fd, 0, 0).unwrap();
    assert_eq!(machine.read(fd).unwrap(), "ONEtwo");
    assert_eq!(
        errno(machine.guest().fd_fdstat_set_flags(fd, 2)),
        Errno::Inval
    );
}

#[test]
fn a_file_is_used_only_as_it_was_opened() {
    let mut machine = Machine::new();
    let write_only = machine.open("out/file", CREATE, WRITE, 0).unwrap();
    let read_only = machine.open("out/file", 0, READ, 0).unwrap();
    assert_eq!(errno(machine.read(write_only)), Errno::Badf);
    assert_eq!(errno(machine.write(read_only, "x")), Errno::Badf);
    assert_eq!(
        errno(machine.guest().fd_filestat_set_size(read_only, 0)),
        Errno::Badf
    );
    assert_eq!(
        errno(machine.open("in/data", 0, READ | WRITE, 0)),
        Errno::Rofs
    );
}

#[test]
fn standard_streams_go_one_way_and_cannot_be_sought() {
    let mut machine = Machine::new();
    machine.world.stdin = crate::world::Stdin::new(b"from outside".as_slice().into());
    assert_eq!(machine.read(0).unwrap(), "from outside");
    assert_eq!(machine.read(0).unwrap(), "");
    machine.write(1, "out").unwrap();
    machine.write(2, "err").unwrap();
    assert_eq!(
        (
            machine.world.stdout.as_slice(),
            machine.world.stderr.as_slice()
        ),
        (b"out".as_slice(), b"err".as_slice())
    );
    assert_eq!(errno(machine.write(0, "x")), Errno::Badf);
    assert_eq!(errno(machine.read(1)), Errno::Badf);
    for fd in 0..3 {
        assert_eq!(errno(machine.seek(fd, 0, 1)), Errno::Spipe);
    }
}

#[test]
fn descriptors_are_lowest_first_and_renumbered() {
    let mut machine = Machine::new();
    let first = machine.open("in/data", 0, READ, 0).unwrap();
    let second = machine.open("in", 0, READ, 0).unwrap();
    assert_eq!((first, second), (4, 5));
    machine.guest().fd_close(first).unwrap();
    assert_eq!(errno(machine.guest().fd_close(first)), Errno::Badf);
    assert_eq!(machine.open("in/data", 0, READ, 0).unwrap(), 4);
    machine.guest().fd_renumber(4, 5).unwrap();
    assert_eq!(machine.read(5).unwrap(), "input");
    assert_eq!(errno(machine.read(4)), Errno::Badf);
    machine.guest().fd_renumber(5, 5).unwrap();
    assert_eq!(errno(machine.guest().fd_renumber(5, 9)), Errno::Badf);
    assert_eq!(errno(machine.guest().fd_renumber(9, 5)), Errno::Badf);
    machine.guest().fd_renumber(5, 1).unwrap();
    assert_eq!(errno(machine.write(1, "x")), Errno::Badf);
}

#[test]
fn there_are_only_so_many_descriptors() {
    let mut machine = Machine::new();
    for _ in 4..1024 {
        machine.open("in/data", 0, READ, 0).unwrap();
    }
    assert_eq!(
        errno(machine.open("out/new", CREATE, WRITE, 0)),
        Errno::Mfile
    );
    assert_eq!(
        errno(machine.world.files.lookup(NodeId::ROOT, "out/new")),
        Errno::Noent
    );
    machine.guest().fd_close(1023).unwrap();
    machine.open("out/new", CREATE, WRITE, 0).unwrap();
}

#[test]
fn a_directory_is_listed_in_any_number_of_pieces_also_while_it_is_emptied() {
    let mut machine = Machine::new();
    let names: Vec<String> = (0..50).map(|index| format!("file-{index}")).collect();
    for name in &names {
        let fd = machine
            .open(&format!("out/{name}"), CREATE, WRITE, 0)
            .unwrap();
        machine.guest().fd_close(fd).unwrap();
    }
    let out = machine.open("out", 2, READ, 0).unwrap();
    for length in [32, 33, 100, 4096] {
        let (mut listed, mut cookie) = (Vec::new(), 0);
        while let Some((_, last)) = machine.list(out, length, cookie).last() {
            listed.extend(
                machine
                    .list(out, length, cookie)
                    .into_iter()
                    .map(|(name, _)| name),
            );
            cookie = *last;
        }
        assert_eq!(listed, names, "{length}");
    }
    let mut removed = Vec::new();
    let mut cookie = 0;
    while let Some((name, last)) = machine.list(out, 32, cookie).pop() {
        let (path, length) = machine.path(&format!("out/{name}"));
        machine
            .guest()
            .path_unlink_file(ROOT, path, length)
            .unwrap();
        removed.push(name);
        cookie = last;
    }
    assert_eq!(removed, names);
    // An entry that does not fit is cut off, and the buffer is full: so the guest knows to ask with a larger one.
    machine.open("out/long-name", CREATE, WRITE, 0).unwrap();
    machine.guest().fd_readdir(out, 3000, 30, 0, 5000).unwrap();
    assert_eq!(machine.u32(5000), 30);
}

#[test]
fn a_file_says_what_it_is() {
    let mut machine = Machine::new();
    let (path, length) = machine.path("in/data");
    machine
        .guest()
        .path_filestat_get(ROOT, 1, path, length, 5000)
        .unwrap();
    let by_path = machine.memory[5000..5064].to_vec();
    let fd = machine.open("in/data", 0, READ, 0).unwrap();
    machine.guest().fd_filestat_get(fd, 5000).unwrap();
    assert_eq!(by_path, machine.memory[5000..5064]);
    // Regular file, one link, five bytes.
    assert_eq!((by_path[16], by_path[24], by_path[32]), (4, 1, 5));
    machine.guest().fd_filestat_get(ROOT, 5000).unwrap();
    assert_eq!(machine.memory[5016], 3);
    machine.guest().fd_fdstat_get(fd, 5000).unwrap();
    assert_eq!(
        (machine.memory[5000], machine.u64(5008) & (READ | WRITE)),
        (4, READ)
    );
    machine.guest().fd_fdstat_get(1, 5000).unwrap();
    assert_eq!((machine.memory[5000], machine.u64(5008)), (0, WRITE));
    machine.guest().fd_fdstat_get(ROOT, 5000).unwrap();
    assert_eq!(machine.u64(5016) & (READ | WRITE), READ | WRITE);
}

#[test]
fn times_are_set_as_told() {
    let mut machine = Machine::new();
    let fd = machine.open("out/file", CREATE, WRITE, 0).unwrap();
    machine
        .guest()
        .fd_filestat_set_times(fd, 11, 22, 1 | 4)
        .unwrap();
    machine.guest().fd_filestat_get(fd, 5000).unwrap();
    assert_eq!((machine.u64(5040), machine.u64(5048)), (11, 22));
    machine.guest().fd_filestat_set_times(fd, 33, 0, 1).unwrap();
    machine.guest().fd_filestat_get(fd, 5000).unwrap();
    assert_eq!((machine.u64(5040), machine.u64(5048)), (33, 22));
    let (path, length) = machine.path("out/file");
    machine
        .guest()
        .path_filestat_set_times(ROOT, 0, path, length, 0, 0, 8)
        .unwrap();
    machine.guest().fd_filestat_get(fd, 5000).unwrap();
    assert_eq!(machine.u64(5048), machine.world.clock.stamp());
    assert_eq!(
        errno(machine.guest().fd_filestat_set_times(fd, 1, 1, 3)),
        Errno::Inval
    );
}

#[test]
fn the_preopened_directory_is_the_root() {
    let mut machine = Machine::new();
    machine.guest().fd_prestat_get(ROOT, 5000).unwrap();
    assert_eq!((machine.u32(5000), machine.u32(5004)), (0, 1));
    machine.guest().fd_prestat_dir_name(ROOT, 5000, 1).unwrap();
    assert_eq!(machine.memory[5000], b'/');
    assert_eq!(
        errno(machine.guest().fd_prestat_dir_name(ROOT, 5000, 0)),
        Errno::NameTooLong
    );
    let other = machine.open("in", 2, READ, 0).unwrap();
    assert_eq!(
        errno(machine.guest().fd_prestat_get(other, 5000)),
        Errno::Badf
    );
}

#[test]
fn waiting_for_a_file_and_a_clock_takes_no_time() {
    let mut machine = Machine::new();
    let mut file = [0; 48];
    file[0] = 1;
    file[8] = 2;
    file[16] = 1;
    let mut clock = [0; 48];
    clock[0] = 2;
    clock[16] = 1;
    clock[24..32].copy_from_slice(&1_000_000_u64.to_le_bytes());
    machine.put(3000, &[clock, file].concat());
    machine.guest().poll_oneoff(3000, 4000, 2, 5000).unwrap();
    assert_eq!(
        (machine.u32(5000), machine.u64(4000), machine.memory[4010]),
        (1, 1, 2)
    );
    assert_eq!(machine.world.clock.now(), 0);
    machine.guest().poll_oneoff(3000, 4000, 1, 5000).unwrap();
    assert_eq!(
        (machine.u32(5000), machine.u64(4000), machine.memory[4010]),
        (1, 2, 0)
    );
    assert_eq!(machine.world.clock.now(), 1_000_000);
}

#[test]
fn waiting_for_the_wall_clock_works_by_the_same_time() {
    let mut machine = Machine::new();
    machine.guest().clock_time_get(0, 0, 5000).unwrap();
    let until = machine.u64(5000) + 5_000_000_000;
    let mut clock = [0; 48];
    clock[24..32].copy_from_slice(&until.to_le_bytes());
    clock[40] = 1;
    machine.put(3000, &clock);
    machine.guest().poll_oneoff(3000, 4000, 1, 5000).unwrap();
    machine.guest().clock_time_get(0, 0, 5000).unwrap();
    assert_eq!(machine.u64(5000), until + crate::world::TICK);
    clock[24..32].copy_from_slice(&u64::MAX.to_le_bytes());
    clock[40] = 0;
    machine.put(3000, &clock);
    machine.guest().poll_oneoff(3000, 4000, 1, 5000).unwrap();
    machine.guest().clock_time_get(0, 0, 5000).unwrap();
    assert_eq!(machine.u64(5000), u64::MAX);
}

#[test]
fn waiting_for_nothing_or_for_nonsense_is_refused() {
    let mut machine = Machine::new();
    assert_eq!(
        errno(machine.guest().poll_oneoff(3000, 4000, 0, 5000)),
        Errno::Inval
    );
    assert_eq!(
        errno(machine.guest().poll_oneoff(3000, 4000, 1025, 5000)),
        Errno::Inval
    );
    machine.memory[3008] = 3;
    assert_eq!(
        errno(machine.guest().poll_oneoff(3000, 4000, 1, 5000)),
        Errno::Inval
    );
    // A file that is not open is reported in its event.
    machine.memory[3008] = 1;
    machine.memory[3016] = 77;
    machine.guest().poll_oneoff(3000, 4000, 1, 5000).unwrap();
    assert_eq!(
        (
            machine.u32(5000),
            machine.memory[4008],
            machine.memory[4010]
        ),
        (1, 8, 1)
    );
}

#[test]
fn too_many_buffers_are_refused_and_the_most_allowed_are_not() {
    let mut machine = Machine::new();
    assert_eq!(
        errno(machine.guest().fd_write(1, 8192, 1025, 5000)),
        Errno::Inval
    );
    machine.guest().fd_write(1, 8192, 1024, 5000).unwrap();
}

#[test]
fn what_no_call_may_take_is_refused_before_it_is_looked_at() {
    let mut machine = Machine::new();
    let random = machine.guest().random_get(u32::MAX, MAX_RANDOM + 1);
    assert_eq!(errno(random), Errno::Inval);
    let most = MAX_PATH as u32;
    for (length, refusal) in [(most, Errno::Fault), (most + 1, Errno::NameTooLong)] {
        let mut guest = machine.guest();
        let path = guest.path_create_directory(ROOT, u32::MAX, length);
        assert_eq!(errno(path), refusal);
        let target = guest.path_symlink(u32::MAX, length, ROOT, 0, 0);
        assert_eq!(errno(target), refusal);
    }
}

#[test]
fn paths_cost_fuel_by_their_names_and_lists_by_their_entries() {
    let mut machine = Machine::new();
    let cost = |machine: &mut Machine, call: fn(&mut Guest<'_>) -> Result<()>| {
        let before = machine.world.account.worked();
        call(&mut machine.guest()).unwrap();
        machine.world.account.worked() - before
    };
    machine.put(1000, "out/../".repeat(100).as_bytes());
    let path = cost(&mut machine, |guest| {
        guest.path_filestat_get(ROOT, 0, 1000, 700, 5000)
    });
    assert!(path >= 200 * 64, "{path}");
    let list = cost(&mut machine, |guest| guest.fd_write(1, 8192, 1024, 5000));
    assert!(list >= 1024, "{list}");
    let waiting = cost(&mut machine, |guest| guest.poll_oneoff(8192, 0, 512, 5000));
    assert!(waiting >= 512 * 6, "{waiting}");
    machine.world.args = vec!["x".repeat(80); 100];
    let sizes = cost(&mut machine, |guest| guest.args_sizes_get(5000, 5004));
    assert!(sizes >= 1000, "{sizes}");
}

#[test]
fn what_lies_partly_outside_the_memory_is_a_fault() {
    let mut machine = Machine::new();
    let end = machine.memory.len() as u32;
    assert_eq!(errno(machine.guest().random_get(end - 1, 2)), Errno::Fault);
    assert_eq!(
        errno(machine.guest().random_get(u32::MAX, MAX_RANDOM)),
        Errno::Fault
    );
    machine.guest().random_get(end - 1, 1).unwrap();
    machine.guest().random_get(end, 0).unwrap();
    assert_eq!(
        errno(machine.guest().fd_write(1, end - 7, 1, 5000)),
        Errno::Fault
    );
    let iovecs = machine.iovecs(&[(end - 2, 3)]);
    assert_eq!(
        errno(machine.guest().fd_write(1, iovecs, 1, 5000)),
        Errno::Fault
    );
    assert_eq!(machine.world.stdout, b"");
    assert_eq!(
        errno(machine.guest().path_create_directory(ROOT, end - 1, 2)),
        Errno::Fault
    );
    machine.put(1000, b"\xff");
    assert_eq!(
        errno(machine.guest().path_create_directory(ROOT, 1000, 1)),
        Errno::Ilseq
    );
}

#[test]
fn printing_past_the_limit_stops_the_guest() {
    let mut machine = Machine::new();
    machine.world.account.take(998).unwrap();
    assert_eq!(
        machine.write(1, "abc").unwrap_err(),
        Refusal::Stop(Stop::OutputLimit)
    );
    assert_eq!(machine.world.stdout, b"ab");
    assert_eq!(machine.world.print(Printer::Stderr, b"").unwrap(), ());
}

/// Makes the call of this number with these arguments.
fn call(guest: &mut Guest<'_>, number: u8, a: [u32; 6], b: [u64; 2]) -> Result<()> {
    match number {
        0 => guest.args_get(a[0], a[1]),
        1 => guest.args_sizes_get(a[0], a[1]),
        2 => guest.environ_get(a[0], a[1]),
        3 => guest.environ_sizes_get(a[0], a[1]),
        4 => guest.clock_res_get(a[0], a[1]),
        5 => guest.clock_time_get(a[0], b[0], a[1]),
        6 => guest.fd_advise(a[0], b[0], b[1], a[1]),
        7 => guest.fd_allocate(a[0], b[0], b[1]),
        8 => guest.fd_close(a[0]),
        9 => guest.fd_datasync(a[0]),
        10 => guest.fd_fdstat_get(a[0], a[1]),
        11 => guest.fd_fdstat_set_flags(a[0], a[1]),
        12 => guest.fd_fdstat_set_rights(a[0], b[0], b[1]),
        13 => guest.fd_filestat_get(a[0], a[1]),
        14 => guest.fd_filestat_set_size(a[0], b[0]),
        15 => guest.fd_filestat_set_times(a[0], b[0], b[1], a[1]),
        16 => guest.fd_pread(a[0], a[1], a[2], b[0], a[3]),
        17 => guest.fd_prestat_get(a[0], a[1]),
        18 => guest.fd_prestat_dir_name(a[0], a[1], a[2]),
        19 => guest.fd_pwrite(a[0], a[1], a[2], b[0], a[3]),
        20 => guest.fd_read(a[0], a[1], a[2], a[3]),
        21 => guest.fd_readdir(a[0], a[1], a[2], b[0], a[3]),
        22 => guest.fd_renumber(a[0], a[1]),
        23 => guest.fd_seek(a[0], b[0].cast_signed(), a[1], a[2]),
        24 => guest.fd_tell(a[0], a[1]),
        25 => guest.fd_write(a[0], a[1], a[2], a[3]),
        26 => guest.path_create_directory(a[0], a[1], a[2]),
        27 => guest.path_filestat_get(a[0], a[1], a[2], a[3], a[4]),
        28 => guest.path_filestat_set_times(a[0], a[1], a[2], a[3], b[0], b[1], a[4]),
        29 => guest.path_open(a[0], a[1], a[2], a[3], a[4], b[0], b[1], a[5], a[1]),
        30 => guest.path_remove_directory(a[0], a[1], a[2]),
        31 => guest.path_rename(a[0], a[1], a[2], a[3], a[4], a[5]),
        32 => guest.path_symlink(a[0], a[1], a[2], a[3], a[4]),
        33 => guest.path_unlink_file(a[0], a[1], a[2]),
        34 => guest.poll_oneoff(a[0], a[1], a[2], a[3]),
        35 => guest.random_get(a[0], a[1]),
        36 => guest.path_readlink(a[0], a[1], a[2], a[3], a[4], a[5]),
        37 => guest.path_link(a[0], a[1], a[2], a[3], a[4], a[5], a[0]),
        _ => guest.sock_recv(a[0], a[1], a[2], a[3], a[4], a[5]),
    }
}

fn argument() -> impl Strategy<Value = u32> {
    prop_oneof![
        0..8_u32,
        990..1010_u32,
        65_500..65_540_u32,
        (u32::MAX - 64)..=u32::MAX,
        any::<u32>()
    ]
}

fn long_argument() -> impl Strategy<Value = u64> {
    prop_oneof![0..2000_u64, (u64::MAX - 9)..=u64::MAX, any::<u64>()]
}

proptest! {
    #[test]
    fn no_arguments_of_any_call_take_the_host_down_or_over_the_limit(
        calls in proptest::collection::vec(
            (0..40_u8, [argument(), argument(), argument(), argument(), argument(), argument()], [long_argument(), long_argument()]),
            1..60,
        ),
    ) {
        let mut machine = Machine::new();
        for index in 0..100 {
            machine.put(1000 + index * 12, b"out/a\0out/b/");
        }
        for (number, short, long) in calls {
            let _ = call(&mut machine.guest(), number, short, long);
            let world = &machine.world;
            prop_assert!(world.stdout.len() + world.stderr.len() <= 1000);
            prop_assert!(world.account.left() <= 1000);
        }
    }
}
