;; Opens again and again a file that is not there, at the end of a path of 4096 bytes with 585 names.
(func (export "_start")
  (local $at i32)
  (local.set $at (i32.const 4096))
  (loop $fill
    (memory.copy (local.get $at) (i32.const 8192) (i32.const 7))
    (local.set $at (i32.add (local.get $at) (i32.const 7)))
    (br_if $fill (i32.lt_u (local.get $at) (i32.const 8191))))
  (i32.store8 (i32.const 8191) (i32.const 120))
  (loop $again
    (drop (call $open_read (i32.const 4096) (i32.const 4096)))
    (br $again)))
(data (i32.const 8192) "out/../")
