;; Calls an empty table entry.
(module (type $t (func)) (table 1 funcref) (func (export "_start") (call_indirect (type $t) (i32.const 0))))
