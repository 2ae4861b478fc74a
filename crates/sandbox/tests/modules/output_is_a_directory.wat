(module
;; Makes a directory where a file is declared.
(import "wasi_snapshot_preview1" "path_create_directory" (func $mkdir (param i32 i32 i32) (result i32)))
(memory (export "memory") 1)
(data (i32.const 0) "out/result")
(func (export "_start") (drop (call $mkdir (i32.const 3) (i32.const 0) (i32.const 10))))
)
