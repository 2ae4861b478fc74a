;; One tile of a picture of the Mandelbrot set, as raw RGB bytes on standard output.
;;
;;   mandelbrot <task_index> <task_count> <width> <height> <max_iterations>
;;
;; The picture is cut into horizontal bands: task i of n draws the rows from floor(i*height/n) up to, but not with,
;; floor((i+1)*height/n). The bands follow each other without gap or overlap for every n, so that the outputs of all
;; tasks, in order, are the picture. With more tasks than rows some bands are empty, which is no error.
;;
;; Everything is computed with the basic operations of f64, which IEEE 754 defines to the last bit. Two machines
;; therefore draw the same bytes, and a result can be checked by drawing it again.
;;
;; Exit codes: 0 drawn, 1 standard output refused the bytes, 2 the arguments make no sense.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get"
    (func $args_sizes_get (param $count_at i32) (param $bytes_at i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get"
    (func $args_get (param $pointers_at i32) (param $text_at i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param $fd i32) (param $vectors i32) (param $vector_count i32) (param $written_at i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit"
    (func $proc_exit (param $code i32)))

  ;; One page of 64 KiB:
  ;;      0  the vector handed to fd_write: pointer, length
  ;;      8  how many bytes it wrote
  ;;     12  how many arguments there are, and at 16 their length together
  ;;     32  pointers to the arguments
  ;;     64  the palette
  ;;    128  the message about wrong arguments
  ;;   1024  the text of the arguments
  ;;   8192  one row of pixels
  (memory (export "memory") 1)
  (global $arguments_at i32 (i32.const 1024))
  (global $arguments_limit i32 (i32.const 7168))
  (global $row_at i32 (i32.const 8192))

  ;; The part of the plane that is drawn: in the valley of the seahorses, a small copy of the whole set between two
  ;; spirals.
  (global $centre_re f64 (f64.const -0.743643887037151))
  (global $centre_im f64 (f64.const 0.131825904205330))
  (global $view_width f64 (f64.const 0.00021))

  ;; Sixteen colours (red, green, blue, unused) in a circle.
  (data (i32.const 64)
    "\00\07\64\00" "\0a\2c\86\00" "\18\55\ad\00" "\25\72\ce\00" "\50\95\d9\00" "\8b\c0\ea\00" "\c4\e6\f8\00" "\ed\ff\ff\00"
    "\f5\f0\b8\00" "\fb\d5\70\00" "\ff\b9\2c\00" "\f0\9a\00\00" "\b2\6a\02\00" "\66\38\04\00" "\1c\0e\14\00" "\02\03\38\00")
  (data (i32.const 128)
    "usage: mandelbrot <task_index> <task_count> <width> <height> <max_iterations>\n"
    "  task_index below task_count, task_count 1 to 4096, width and height 1 to 16384, max_iterations 1 to 1000000\n")
  (global $usage_length i32 (i32.const 188))

  ;; The colour of the pixel being drawn, summed over its samples.
  (global $red (mut f64) (f64.const 0))
  (global $green (mut f64) (f64.const 0))
  (global $blue (mut f64) (f64.const 0))

  (func $main (export "_start")
    (local $index i32) (local $count i32) (local $width i32) (local $height i32) (local $iterations i32)
    (local $row i32) (local $end i32)
    (call $load_arguments)
    (local.set $count (call $argument (i32.const 2) (i32.const 1) (i32.const 4096)))
    (local.set $index (call $argument (i32.const 1) (i32.const 0) (i32.sub (local.get $count) (i32.const 1))))
    (local.set $width (call $argument (i32.const 3) (i32.const 1) (i32.const 16384)))
    (local.set $height (call $argument (i32.const 4) (i32.const 1) (i32.const 16384)))
    (local.set $iterations (call $argument (i32.const 5) (i32.const 1) (i32.const 1000000)))
    (local.set $row (call $first_row (local.get $index) (local.get $count) (local.get $height)))
    (local.set $end (call $first_row (i32.add (local.get $index) (i32.const 1)) (local.get $count) (local.get $height)))
    (block $drawn
      (loop $next_row
        (br_if $drawn (i32.ge_u (local.get $row) (local.get $end)))
        (call $draw_row (local.get $row) (local.get $width) (local.get $height) (local.get $iterations))
        (if (call $write (i32.const 1) (global.get $row_at) (i32.mul (local.get $width) (i32.const 3)))
          (then (call $proc_exit (i32.const 1))))
        (local.set $row (i32.add (local.get $row) (i32.const 1)))
        (br $next_row))))

  ;; The row at which a band starts. The product is at most 4096 * 16384, which fits.
  (func $first_row (param $index i32) (param $count i32) (param $height i32) (result i32)
    (i32.div_u (i32.mul (local.get $index) (local.get $height)) (local.get $count)))

  ;; Leaves one row of pixels at $row_at.
  (func $draw_row (param $row i32) (param $width i32) (param $height i32) (param $iterations i32)
    (local $column i32) (local $step f64) (local $left f64) (local $im f64) (local $at i32)
    (local.set $step (f64.div (global.get $view_width) (f64.convert_i32_u (local.get $width))))
    (local.set $left (f64.sub (global.get $centre_re) (f64.mul (global.get $view_width) (f64.const 0.5))))
    (local.set $im ;; rows go down, the imaginary axis goes up
      (f64.add
        (global.get $centre_im)
        (f64.mul
          (f64.sub (f64.mul (f64.convert_i32_u (local.get $height)) (f64.const 0.5)) (f64.convert_i32_u (local.get $row)))
          (local.get $step))))
    (local.set $at (global.get $row_at))
    (loop $next_column
      (call $draw_pixel
        (f64.add (local.get $left) (f64.mul (f64.convert_i32_u (local.get $column)) (local.get $step)))
        (local.get $im) (local.get $step) (local.get $iterations))
      (i32.store8 offset=0 (local.get $at) (call $byte (global.get $red)))
      (i32.store8 offset=1 (local.get $at) (call $byte (global.get $green)))
      (i32.store8 offset=2 (local.get $at) (call $byte (global.get $blue)))
      (local.set $at (i32.add (local.get $at) (i32.const 3)))
      (local.set $column (i32.add (local.get $column) (i32.const 1)))
      (br_if $next_column (i32.lt_u (local.get $column) (local.get $width)))))

  ;; Four samples a pixel, so that filaments thinner than a pixel do not break up into dots.
  (func $draw_pixel (param $re f64) (param $im f64) (param $step f64) (param $iterations i32)
    (local $near f64) (local $far f64)
    (local.set $near (f64.mul (local.get $step) (f64.const 0.25)))
    (local.set $far (f64.mul (local.get $step) (f64.const 0.75)))
    (global.set $red (f64.const 0))
    (global.set $green (f64.const 0))
    (global.set $blue (f64.const 0))
    (call $sample (f64.add (local.get $re) (local.get $near)) (f64.sub (local.get $im) (local.get $near)) (local.get $iterations))
    (call $sample (f64.add (local.get $re) (local.get $far)) (f64.sub (local.get $im) (local.get $near)) (local.get $iterations))
    (call $sample (f64.add (local.get $re) (local.get $near)) (f64.sub (local.get $im) (local.get $far)) (local.get $iterations))
    (call $sample (f64.add (local.get $re) (local.get $far)) (f64.sub (local.get $im) (local.get $far)) (local.get $iterations)))

  ;; The mean of the four samples, which are at most 255 each.
  (func $byte (param $sum f64) (result i32)
    (i32.trunc_f64_u (f64.mul (local.get $sum) (f64.const 0.25))))

  ;; Adds the colour of one point. What is inside the set is black, and adds nothing.
  (func $sample (param $re f64) (param $im f64) (param $iterations i32)
    (local $escaped f64) (local $place f64) (local $colour i32) (local $between f64)
    (local.set $escaped (call $escape (local.get $re) (local.get $im) (local.get $iterations)))
    (if (f64.lt (local.get $escaped) (f64.const 0)) (then (return)))
    ;; The root keeps the bands about equally wide, although the count grows ever faster towards the set.
    (local.set $place (f64.mul (f64.sqrt (local.get $escaped)) (f64.const 1.6)))
    (local.set $colour (i32.trunc_f64_u (local.get $place)))
    (local.set $between (f64.sub (local.get $place) (f64.convert_i32_u (local.get $colour))))
    (global.set $red (f64.add (global.get $red) (call $channel (local.get $colour) (local.get $between) (i32.const 0))))
    (global.set $green (f64.add (global.get $green) (call $channel (local.get $colour) (local.get $between) (i32.const 1))))
    (global.set $blue (f64.add (global.get $blue) (call $channel (local.get $colour) (local.get $between) (i32.const 2)))))

  ;; One channel of the colour that lies between two neighbours of the palette.
  (func $channel (param $colour i32) (param $between f64) (param $channel i32) (result f64)
    (local $this f64) (local $next f64)
    (local.set $this (call $palette (local.get $colour) (local.get $channel)))
    (local.set $next (call $palette (i32.add (local.get $colour) (i32.const 1)) (local.get $channel)))
    (f64.add (local.get $this) (f64.mul (f64.sub (local.get $next) (local.get $this)) (local.get $between))))

  (func $palette (param $colour i32) (param $channel i32) (result f64)
    (f64.convert_i32_u
      (i32.load8_u offset=64
        (i32.add (i32.mul (i32.and (local.get $colour) (i32.const 15)) (i32.const 4)) (local.get $channel)))))

  ;; After how many steps of z -> z*z + c the point leaves the disc of radius 256, in fractions of a step so that the
  ;; colours flow; -1 for a point that stays. The disc is larger than need be, which makes the fraction exact enough.
  (func $escape (param $re f64) (param $im f64) (param $iterations i32) (result f64)
    (local $x f64) (local $y f64) (local $xx f64) (local $yy f64) (local $n i32)
    (loop $step
      (local.set $y
        (f64.add (f64.mul (f64.add (local.get $x) (local.get $x)) (local.get $y)) (local.get $im)))
      (local.set $x (f64.add (f64.sub (local.get $xx) (local.get $yy)) (local.get $re)))
      (local.set $xx (f64.mul (local.get $x) (local.get $x)))
      (local.set $yy (f64.mul (local.get $y) (local.get $y)))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (if (f64.gt (f64.add (local.get $xx) (local.get $yy)) (f64.const 65536))
        (then (return (call $smooth (local.get $n) (f64.add (local.get $xx) (local.get $yy))))))
      (br_if $step (i32.lt_u (local.get $n) (local.get $iterations))))
    (f64.const -1))

  ;; n - log2(log2(|z|^2) / 16): the second term grows from 0 to 1 while |z| grows from 256 to its square, where the
  ;; next step would have been the first outside.
  (func $smooth (param $n i32) (param $squared f64) (result f64)
    (f64.sub
      (f64.convert_i32_u (local.get $n))
      (call $log2 (f64.mul (call $log2 (local.get $squared)) (f64.const 0.0625)))))

  ;; The exponent of a positive number, and for its mantissa m in 1..2 the parabola through log2 at both ends, whose
  ;; slopes fit where one octave meets the next: -m*m/3 + 2*m - 5/3. The engine's bits, no library's.
  (func $log2 (param $value f64) (result f64)
    (local $bits i64) (local $mantissa f64)
    (local.set $bits (i64.reinterpret_f64 (local.get $value)))
    (local.set $mantissa
      (f64.reinterpret_i64
        (i64.or (i64.and (local.get $bits) (i64.const 0x000fffffffffffff)) (i64.const 0x3ff0000000000000))))
    (f64.add
      (f64.convert_i64_s (i64.sub (i64.shr_u (local.get $bits) (i64.const 52)) (i64.const 1023)))
      (f64.sub
        (f64.mul
          (f64.sub (f64.const 2) (f64.div (local.get $mantissa) (f64.const 3)))
          (local.get $mantissa))
        (f64.const 1.6666666666666667))))

  ;; Copies the arguments into memory, where there are as many as there should be and they fit.
  (func $load_arguments
    (if (call $args_sizes_get (i32.const 12) (i32.const 16)) (then (call $refuse)))
    (if (i32.ne (i32.load (i32.const 12)) (i32.const 6)) (then (call $refuse)))
    (if (i32.gt_u (i32.load (i32.const 16)) (global.get $arguments_limit)) (then (call $refuse)))
    (if (call $args_get (i32.const 32) (global.get $arguments_at)) (then (call $refuse))))

  ;; The argument as a decimal number within its bounds. Nine digits cannot overflow.
  (func $argument (param $which i32) (param $low i32) (param $high i32) (result i32)
    (local $at i32) (local $digit i32) (local $digits i32) (local $value i32)
    (local.set $at (i32.load offset=32 (i32.mul (local.get $which) (i32.const 4))))
    (block $end
      (loop $next
        (br_if $end (i32.eqz (i32.load8_u (local.get $at)))) ;; every argument ends with a zero
        (local.set $digit (i32.sub (i32.load8_u (local.get $at)) (i32.const 48)))
        (local.set $digits (i32.add (local.get $digits) (i32.const 1)))
        (if (i32.gt_u (local.get $digit) (i32.const 9)) (then (call $refuse)))
        (if (i32.gt_u (local.get $digits) (i32.const 9)) (then (call $refuse)))
        (local.set $value (i32.add (i32.mul (local.get $value) (i32.const 10)) (local.get $digit)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
    (if (i32.eqz (local.get $digits)) (then (call $refuse)))
    (if (i32.lt_u (local.get $value) (local.get $low)) (then (call $refuse)))
    (if (i32.gt_u (local.get $value) (local.get $high)) (then (call $refuse)))
    (local.get $value))

  ;; Says how it is used, and ends. There is nobody to tell when that cannot be written either.
  (func $refuse
    (drop (call $write (i32.const 2) (i32.const 128) (global.get $usage_length)))
    (call $proc_exit (i32.const 2)))

  ;; Writes all the bytes, however few are taken at a time. Gives an error number, or 0.
  (func $write (param $fd i32) (param $at i32) (param $length i32) (result i32)
    (local $error i32) (local $taken i32)
    (loop $rest
      (i32.store (i32.const 0) (local.get $at))
      (i32.store (i32.const 4) (local.get $length))
      (local.set $error (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
      (if (local.get $error) (then (return (local.get $error))))
      (local.set $taken (i32.load (i32.const 8)))
      (if (i32.eqz (local.get $taken)) (then (return (i32.const 29)))) ;; EIO: it would never end
      (local.set $at (i32.add (local.get $at) (local.get $taken)))
      (local.set $length (i32.sub (local.get $length) (local.get $taken)))
      (br_if $rest (local.get $length)))
    (i32.const 0)))
