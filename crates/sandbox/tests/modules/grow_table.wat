;; Takes a million table entries at a time, and dies when there are none left.
(module
  (table $t 0 funcref)
  (func (export "_start")
    (loop $more
      (if (i32.eq (table.grow $t (ref.null func) (i32.const 1000000)) (i32.const -1)) (then unreachable))
      (br $more))))
