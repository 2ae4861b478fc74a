;; Writes 64 KiB at a time to one file, without end.
(data (i32.const 4096) "out/result")
(func (export "_start")
  (drop (call $open_write (i32.const 4096) (i32.const 10)))
  (loop $more
    (drop (call $write (call $opened) (i32.const 65536) (i32.const 65536)))
    (br $more)))
