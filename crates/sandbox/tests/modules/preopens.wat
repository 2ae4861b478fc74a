;; Prints the errno of asking each of the first ten descriptors whether it is a preopened directory.
(func (export "_start") (local $fd i32)
  (loop $next
    (call $errno (call $fd_prestat_get (local.get $fd) (i32.const 48)))
    (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
    (br_if $next (i32.lt_u (local.get $fd) (i32.const 10)))))
