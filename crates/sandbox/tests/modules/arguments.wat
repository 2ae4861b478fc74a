;; Prints its arguments and its environment as the system calls lay them out.
(func (export "_start")
  (drop (call $args_sizes_get (i32.const 32) (i32.const 36)))
  (drop (call $args_get (i32.const 4096) (i32.const 8192)))
  (call $say (i32.const 8192) (i32.load (i32.const 36)))
  (drop (call $environ_sizes_get (i32.const 32) (i32.const 36)))
  (drop (call $environ_get (i32.const 4096) (i32.const 8192)))
  (call $say (i32.const 8192) (i32.load (i32.const 36))))
