;; Opens and renames files whose names are most of its memory.
(func (export "_start")
  (drop (memory.grow (i32.const 900)))
  (memory.fill (i32.const 65536) (i32.const 97) (i32.const 58720256))
  (drop (call $open_read (i32.const 65536) (i32.const 58720256)))
  (drop (call $path_rename (i32.const 3) (i32.const 65536) (i32.const 58720256)
    (i32.const 3) (i32.const 65536) (i32.const 58720256))))
