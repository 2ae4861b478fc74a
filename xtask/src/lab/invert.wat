;; Turns the bits of /data/in around, into /out/inverse.
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "data/in")
  (data (i32.const 16) "out/inverse")

  ;; Opens a path below the root.
  (func $open (param $path i32) (param $length i32) (param $how i32) (param $rights i64) (result i32)
    (if (call $path_open (i32.const 3) (i32.const 1) (local.get $path) (local.get $length) (local.get $how)
          (local.get $rights) (i64.const 0) (i32.const 0) (i32.const 28))
      (then unreachable))
    (i32.load (i32.const 28)))

  ;; A list of one buffer at 32: so many bytes from 65536 on. How many were read or written is at 40.
  (func $buffer (param $length i32)
    (i32.store (i32.const 32) (i32.const 65536))
    (i32.store (i32.const 36) (local.get $length)))

  ;; The buffer's bits, the whole of it.
  (func $invert (local $at i32)
    (local.set $at (i32.const 65536))
    (loop $next
      (i64.store (local.get $at) (i64.xor (i64.load (local.get $at)) (i64.const -1)))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 131072)))))

  (func (export "_start") (local $from i32) (local $to i32) (local $got i32)
    (local.set $from (call $open (i32.const 0) (i32.const 7) (i32.const 0) (i64.const 2)))
    (local.set $to (call $open (i32.const 16) (i32.const 11) (i32.const 9) (i64.const 64)))
    (loop $more
      (call $buffer (i32.const 65536))
      (if (call $fd_read (local.get $from) (i32.const 32) (i32.const 1) (i32.const 40)) (then unreachable))
      (local.set $got (i32.load (i32.const 40)))
      (call $invert)
      (call $buffer (local.get $got))
      (if (call $fd_write (local.get $to) (i32.const 32) (i32.const 1) (i32.const 40)) (then unreachable))
      (if (i32.ne (local.get $got) (i32.load (i32.const 40))) (then unreachable))
      (br_if $more (local.get $got)))))
