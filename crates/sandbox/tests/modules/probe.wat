;; Tries to open the path that is its second argument, for reading and for writing, and prints both errnos; what can be
;; read follows.
(func $length (param $text i32) (result i32) (local $at i32)
  (local.set $at (local.get $text))
  (block $end (loop $next
    (br_if $end (i32.eqz (i32.load8_u (local.get $at))))
    (local.set $at (i32.add (local.get $at) (i32.const 1)))
    (br $next)))
  (i32.sub (local.get $at) (local.get $text)))
(func (export "_start") (local $path i32) (local $errno i32)
  (drop (call $args_get (i32.const 4096) (i32.const 8192)))
  (local.set $path (i32.load (i32.const 4100)))
  (local.set $errno (call $open_read (local.get $path) (call $length (local.get $path))))
  (call $errno (local.get $errno))
  (call $errno (call $open_write (local.get $path) (call $length (local.get $path))))
  (if (i32.eqz (local.get $errno))
    (then (call $say (i32.const 65536) (call $read (i32.const 4) (i32.const 65536) (i32.const 65536))))))
