(func (export "_start") (call $proc_exit (i32.const CODE)) unreachable)
