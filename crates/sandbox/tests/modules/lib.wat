;; What most guests of the tests share: system calls, one memory, and ways to print.
;; Bytes 0..1024 are scratch space; guests keep their data from 4096 on.
(import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "environ_get" (func $environ_get (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
(import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_seek" (func $fd_seek (param i32 i64 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_readdir" (func $fd_readdir (param i32 i32 i32 i64 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_prestat_get" (func $fd_prestat_get (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_open" (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_symlink" (func $path_symlink (param i32 i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_link" (func $path_link (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_rename" (func $path_rename (param i32 i32 i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
(import "wasi_snapshot_preview1" "sock_accept" (func $sock_accept (param i32 i32 i32) (result i32)))
(memory (export "memory") 4)

;; Writes to an open file; returns the errno.
(func $write (param $fd i32) (param $bytes i32) (param $length i32) (result i32)
  (i32.store (i32.const 16) (local.get $bytes))
  (i32.store (i32.const 20) (local.get $length))
  (call $fd_write (local.get $fd) (i32.const 16) (i32.const 1) (i32.const 24)))

;; Reads from an open file; returns how much, 0 at the end.
(func $read (param $fd i32) (param $bytes i32) (param $length i32) (result i32)
  (i32.store (i32.const 16) (local.get $bytes))
  (i32.store (i32.const 20) (local.get $length))
  (i32.store (i32.const 24) (i32.const 0))
  (drop (call $fd_read (local.get $fd) (i32.const 16) (i32.const 1) (i32.const 24)))
  (i32.load (i32.const 24)))

(func $say (param $bytes i32) (param $length i32)
  (drop (call $write (i32.const 1) (local.get $bytes) (local.get $length))))

;; Prints a number in decimal and a space.
(func $number (param $n i64)
  (local $at i32)
  (local.set $at (i32.const 200))
  (i32.store8 (local.get $at) (i32.const 32))
  (loop $digit
    (local.set $at (i32.sub (local.get $at) (i32.const 1)))
    (i32.store8 (local.get $at)
      (i32.add (i32.const 48) (i32.wrap_i64 (i64.rem_u (local.get $n) (i64.const 10)))))
    (local.set $n (i64.div_u (local.get $n) (i64.const 10)))
    (br_if $digit (i64.ne (local.get $n) (i64.const 0))))
  (call $say (local.get $at) (i32.sub (i32.const 201) (local.get $at))))

;; Prints an errno.
(func $errno (param $n i32) (call $number (i64.extend_i32_u (local.get $n))))

;; Opens a path below the preopened directory, for reading and perhaps writing. Returns the errno; the file is at 28.
(func $open (param $path i32) (param $length i32) (param $how i32) (param $rights i64) (result i32)
  (call $path_open (i32.const 3) (i32.const 1) (local.get $path) (local.get $length) (local.get $how)
    (local.get $rights) (i64.const 0) (i32.const 0) (i32.const 28)))

;; Opens for reading.
(func $open_read (param $path i32) (param $length i32) (result i32)
  (call $open (local.get $path) (local.get $length) (i32.const 0) (i64.const 2)))

;; Opens for writing, made or cut off.
(func $open_write (param $path i32) (param $length i32) (result i32)
  (call $open (local.get $path) (local.get $length) (i32.const 9) (i64.const 64)))

(func $opened (result i32) (i32.load (i32.const 28)))
