;; Leaves 1000 bytes in /out/result.
(data (i32.const 4096) "out/result")
(func (export "_start")
  (call $errno (call $open_write (i32.const 4096) (i32.const 10)))
  (call $errno (call $write (call $opened) (i32.const 65536) (i32.const 1000))))
