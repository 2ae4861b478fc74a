;; Waits an hour by the monotonic clock, and prints by how many nanoseconds the clock went on.
(data (i32.const 4096) "\07\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\01\00\00\00\00\00\00\00\00\a0\b8\30\46\03\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00")
(func (export "_start")
  (drop (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 32)))
  (call $errno (call $poll_oneoff (i32.const 4096) (i32.const 5000) (i32.const 1) (i32.const 48)))
  (call $errno (i32.load (i32.const 48)))
  (drop (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 40)))
  (call $number (i64.sub (i64.load (i32.const 40)) (i64.load (i32.const 32)))))
