;; Writes one byte at 2^40, which makes a file of a terabyte.
(data (i32.const 4096) "out/result")
(func (export "_start")
  (drop (call $open_write (i32.const 4096) (i32.const 10)))
  (drop (call $fd_seek (call $opened) (i64.const 0x10000000000) (i32.const 0) (i32.const 48)))
  (drop (call $write (call $opened) (i32.const 65536) (i32.const 1))))
