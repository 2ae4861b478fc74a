;; A WASI preview 2 component: prints a line, tries to open a TCP and a UDP socket and to resolve a name, and prints the
;; error codes. Fails if any of that succeeds.
(component
  (import "wasi:io/error@0.2.0" (instance $io-error (export "error" (type (sub resource)))))
  (alias export $io-error "error" (type $error))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (export "output-stream" (type $output (sub resource)))
    (alias outer 1 $error (type $outer-error))
    (export "error" (type $e (eq $outer-error)))
    (type $stream-error (variant (case "last-operation-failed" (own $e)) (case "closed")))
    (export "stream-error" (type $s (eq $stream-error)))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $output)) (param "contents" (list u8)) (result (result (error $s)))))))
  (alias export $streams "output-stream" (type $output))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $output (type $outer-output))
    (export "output-stream" (type $o (eq $outer-output)))
    (export "get-stdout" (func (result (own $o))))))
  (import "wasi:sockets/network@0.2.0" (instance $network
    (export "network" (type (sub resource)))
    (type $error-code (enum "unknown" "access-denied" "not-supported" "invalid-argument" "out-of-memory" "timeout"
      "concurrency-conflict" "not-in-progress" "would-block" "invalid-state" "new-socket-limit" "address-not-bindable"
      "address-in-use" "remote-unreachable" "connection-refused" "connection-reset" "connection-aborted"
      "datagram-too-large" "name-unresolvable" "temporary-resolver-failure" "permanent-resolver-failure"))
    (export "error-code" (type (eq $error-code)))
    (type $family (enum "ipv4" "ipv6"))
    (export "ip-address-family" (type (eq $family)))))
  (alias export $network "network" (type $net))
  (alias export $network "error-code" (type $code))
  (alias export $network "ip-address-family" (type $family))
  (import "wasi:sockets/instance-network@0.2.0" (instance $instance-network
    (alias outer 1 $net (type $n0)) (export "network" (type $n (eq $n0)))
    (export "instance-network" (func (result (own $n))))))
  (import "wasi:sockets/ip-name-lookup@0.2.0" (instance $lookup
    (export "resolve-address-stream" (type $addresses (sub resource)))
    (alias outer 1 $net (type $n0)) (export "network" (type $n (eq $n0)))
    (alias outer 1 $code (type $c0)) (export "error-code" (type $c (eq $c0)))
    (export "resolve-addresses"
      (func (param "network" (borrow $n)) (param "name" string) (result (result (own $addresses) (error $c)))))))
  (import "wasi:sockets/tcp@0.2.0" (instance $tcp (export "tcp-socket" (type (sub resource)))))
  (alias export $tcp "tcp-socket" (type $tcp-socket))
  (import "wasi:sockets/tcp-create-socket@0.2.0" (instance $create-tcp
    (alias outer 1 $tcp-socket (type $t0)) (export "tcp-socket" (type $t (eq $t0)))
    (alias outer 1 $code (type $c0)) (export "error-code" (type $c (eq $c0)))
    (alias outer 1 $family (type $f0)) (export "ip-address-family" (type $f (eq $f0)))
    (export "create-tcp-socket" (func (param "address-family" $f) (result (result (own $t) (error $c)))))))
  (import "wasi:sockets/udp@0.2.0" (instance $udp (export "udp-socket" (type (sub resource)))))
  (alias export $udp "udp-socket" (type $udp-socket))
  (import "wasi:sockets/udp-create-socket@0.2.0" (instance $create-udp
    (alias outer 1 $udp-socket (type $u0)) (export "udp-socket" (type $u (eq $u0)))
    (alias outer 1 $code (type $c0)) (export "error-code" (type $c (eq $c0)))
    (alias outer 1 $family (type $f0)) (export "ip-address-family" (type $f (eq $f0)))
    (export "create-udp-socket" (func (param "address-family" $f) (result (result (own $u) (error $c)))))))

  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $get-stdout (canon lower (func $stdout "get-stdout")))
  (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush") (memory (core memory $memory "memory"))))
  (core func $instance-network (canon lower (func $instance-network "instance-network")))
  (core func $resolve (canon lower (func $lookup "resolve-addresses") (memory (core memory $memory "memory"))))
  (core func $create-tcp (canon lower (func $create-tcp "create-tcp-socket") (memory (core memory $memory "memory"))))
  (core func $create-udp (canon lower (func $create-udp "create-udp-socket") (memory (core memory $memory "memory"))))
  (core module $main
    (import "" "memory" (memory 1))
    (import "" "get-stdout" (func $get_stdout (result i32)))
    (import "" "write" (func $write (param i32 i32 i32 i32)))
    (import "" "instance-network" (func $instance_network (result i32)))
    (import "" "resolve" (func $resolve (param i32 i32 i32 i32)))
    (import "" "create-tcp" (func $create_tcp (param i32 i32)))
    (import "" "create-udp" (func $create_udp (param i32 i32)))
    (data (i32.const 64) "a component\nlocalhost")
    (func $say (param $at i32) (param $length i32)
      (call $write (call $get_stdout) (local.get $at) (local.get $length) (i32.const 0)))
    ;; Prints the error code of the result at 16, which may be an error only.
    (func $refused
      (if (i32.eqz (i32.load8_u (i32.const 16))) (then unreachable))
      (i32.store8 (i32.const 32) (i32.add (i32.const 97) (i32.load8_u (i32.const 20))))
      (call $say (i32.const 32) (i32.const 1)))
    (func (export "run") (result i32)
      (call $say (i32.const 64) (i32.const 12))
      (call $create_tcp (i32.const 0) (i32.const 16))
      (call $refused)
      (call $create_udp (i32.const 1) (i32.const 16))
      (call $refused)
      (call $resolve (call $instance_network) (i32.const 76) (i32.const 9) (i32.const 16))
      (call $refused)
      (i32.const 0)))
  (core instance $main (instantiate $main (with "" (instance
    (export "memory" (memory $memory "memory"))
    (export "get-stdout" (func $get-stdout))
    (export "write" (func $write))
    (export "instance-network" (func $instance-network))
    (export "resolve" (func $resolve))
    (export "create-tcp" (func $create-tcp))
    (export "create-udp" (func $create-udp))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))
