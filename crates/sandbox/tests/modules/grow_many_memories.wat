;; Three memories of 640 KiB each.
(module (memory 10) (memory 10) (memory 10) (func (export "_start")))
