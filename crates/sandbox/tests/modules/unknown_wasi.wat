(module (import "wasi_snapshot_preview1" "fd_teleport" (func)) (func (export "_start")))
