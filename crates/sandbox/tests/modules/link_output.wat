;; Tries to make /out/result another name for /etc/passwd: by symbolic link, hard link, and renaming.
(data (i32.const 4096) "out/result")
(data (i32.const 4128) "/etc/passwd")
(data (i32.const 4160) "../../../../etc/passwd")
(func (export "_start")
  (call $errno (call $path_symlink (i32.const 4128) (i32.const 11) (i32.const 3) (i32.const 4096) (i32.const 10)))
  (call $errno (call $path_symlink (i32.const 4160) (i32.const 22) (i32.const 3) (i32.const 4096) (i32.const 10)))
  (call $errno (call $path_link (i32.const 3) (i32.const 1) (i32.const 4160) (i32.const 22) (i32.const 3) (i32.const 4096) (i32.const 10)))
  (call $errno (call $path_rename (i32.const 3) (i32.const 4160) (i32.const 22) (i32.const 3) (i32.const 4096) (i32.const 10))))
