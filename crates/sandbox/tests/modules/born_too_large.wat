;; Its memory is 1 GiB from the start.
(module (memory 16384) (func (export "_start")))
