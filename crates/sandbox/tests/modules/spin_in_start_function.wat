;; Never gets to `_start`: the start function runs at instantiation.
(module
  (func $spin (loop $for_ever (br $for_ever)))
  (start $spin)
  (func (export "_start")))
