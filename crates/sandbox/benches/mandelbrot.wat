;; Renders one tile of the Mandelbrot set, 512 by 512 pixels of one byte, to standard output as a PGM picture.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 8)
  (data (i32.const 64) "P5\n512 512\n255\n")

  ;; How long the point takes to leave the circle of radius 2, up to 255 steps.
  (func $escape (param $cr f64) (param $ci f64) (result i32)
    (local $zr f64) (local $zi f64) (local $rr f64) (local $ii f64) (local $n i32)
    (loop $step
      (local.set $rr (f64.mul (local.get $zr) (local.get $zr)))
      (local.set $ii (f64.mul (local.get $zi) (local.get $zi)))
      (if (f64.gt (f64.add (local.get $rr) (local.get $ii)) (f64.const 4)) (then (return (local.get $n))))
      (local.set $zi
        (f64.add (f64.mul (f64.add (local.get $zr) (local.get $zr)) (local.get $zi)) (local.get $ci)))
      (local.set $zr (f64.add (f64.sub (local.get $rr) (local.get $ii)) (local.get $cr)))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $step (i32.lt_u (local.get $n) (i32.const 255))))
    (local.get $n))

  (func $print (param $at i32) (param $length i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $length))
    (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable)))

  (func (export "_start") (local $x i32) (local $y i32)
    (loop $row
      (local.set $x (i32.const 0))
      (loop $pixel
        (i32.store8
          (i32.add (i32.const 4096) (i32.add (i32.shl (local.get $y) (i32.const 9)) (local.get $x)))
          (call $escape
            (f64.sub (f64.mul (f64.convert_i32_u (local.get $x)) (f64.const 0.005859375)) (f64.const 2))
            (f64.sub (f64.mul (f64.convert_i32_u (local.get $y)) (f64.const 0.005859375)) (f64.const 1.5))))
        (local.set $x (i32.add (local.get $x) (i32.const 1)))
        (br_if $pixel (i32.lt_u (local.get $x) (i32.const 512))))
      (local.set $y (i32.add (local.get $y) (i32.const 1)))
      (br_if $row (i32.lt_u (local.get $y) (i32.const 512))))
    (call $print (i32.const 64) (i32.const 15))
    (call $print (i32.const 4096) (i32.const 262144))))
