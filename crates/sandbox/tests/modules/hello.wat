;; Prints a line to standard output and one to standard error.
(data (i32.const 4096) "hello, world\nto err\n")
(func (export "_start")
  (call $say (i32.const 4096) (i32.const 13))
  (drop (call $write (i32.const 2) (i32.const 4109) (i32.const 7))))
