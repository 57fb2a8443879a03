;; A plugin that asks for what it may not have been granted: {"ask": "..."}, of which the first letter counts.
;; Answers a number: 0 for success, or one more than the code of the error.
(component
  (import "wasi:filesystem/types@0.2.0" (instance $files
    (export "descriptor" (type $descriptor (sub resource)))
    (type $code' (enum "access" "would-block" "already" "bad-descriptor" "busy" "deadlock" "quota" "exist"
      "file-too-large" "illegal-byte-sequence" "in-progress" "interrupted" "invalid" "io" "is-directory" "loop"
      "too-many-links" "message-size" "name-too-long" "no-device" "no-entry" "no-lock" "insufficient-memory"
      "insufficient-space" "not-directory" "not-empty" "not-recoverable" "unsupported" "no-tty" "no-such-device"
      "overflow" "not-permitted" "pipe" "read-only" "invalid-seek" "text-file-busy" "cross-device"))
    (export "error-code" (type $code (eq $code')))
    (type $path' (flags "symlink-follow"))
    (export "path-flags" (type $path (eq $path')))
    (type $open' (flags "create" "directory" "exclusive" "truncate"))
    (export "open-flags" (type $open (eq $open')))
    (type $mode' (flags "read" "write" "file-integrity-sync" "data-integrity-sync" "requested-write-sync"
      "mutate-directory"))
    (export "descriptor-flags" (type $mode (eq $mode')))
    (export "[method]descriptor.open-at"
      (func (param "self" (borrow $descriptor)) (param "path-flags" $path) (param "path" string)
        (param "open-flags" $open) (param "flags" $mode) (result (result (own $descriptor) (error $code)))))
    (export "[method]descriptor.create-directory-at"
      (func (param "self" (borrow $descriptor)) (param "path" string) (result (result (error $code)))))
  ))
  (alias export $files "descriptor" (type $descriptor))
  (import "wasi:filesystem/preopens@0.2.0" (instance $preopens
    (alias outer 1 $descriptor (type $descriptor'))
    (export "descriptor" (type $descriptor (eq $descriptor')))
    (export "get-directories" (func (result (list (tuple (own $descriptor) string)))))
  ))
  (import "wasi:cli/environment@0.2.0" (instance $environment
    (export "get-environment" (func (result (list (tuple string string)))))
  ))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
    (export "now" (func (result u64)))
  ))
  (import "wasi:sockets/network@0.2.0" (instance $network
    (type $code' (enum "unknown" "access-denied" "not-supported" "invalid-argument" "out-of-memory" "timeout"
      "concurrency-conflict" "not-in-progress" "would-block" "invalid-state" "new-socket-limit"
      "address-not-bindable" "address-in-use" "remote-unreachable" "connection-refused" "connection-reset"
      "connection-aborted" "datagram-too-large" "name-unresolvable" "temporary-resolver-failure"
      "permanent-resolver-failure"))
    (export "error-code" (type $code (eq $code')))
    (type $family' (enum "ipv4" "ipv6"))
    (export "ip-address-family" (type $family (eq $family')))
  ))
  (alias export $network "error-code" (type $socket-code))
  (alias export $network "ip-address-family" (type $family))
  (import "wasi:sockets/tcp@0.2.0" (instance $tcp
    (export "tcp-socket" (type $socket (sub resource)))
  ))
  (alias export $tcp "tcp-socket" (type $socket))
  (import "wasi:sockets/tcp-create-socket@0.2.0" (instance $sockets
    (alias outer 1 $socket-code (type $code'))
    (export "error-code" (type $code (eq $code')))
    (alias outer 1 $family (type $family'))
    (export "ip-address-family" (type $family (eq $family')))
    (alias outer 1 $socket (type $socket'))
    (export "tcp-socket" (type $socket (eq $socket')))
    (export "create-tcp-socket"
      (func (param "address-family" $family) (result (result (own $socket) (error $code)))))
  ))
  (core module $libc
    (memory (export "memory") 2)
    (global $top (mut i32) (i32.const 65536))
    (func (export "reset") (global.set $top (i32.const 65536)))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
      (global.set $top (i32.add (local.get $at) (local.get 3)))
      (local.get $at))
  )
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "realloc" (core func $realloc))
  (core func $create (canon lower (func $files "[method]descriptor.create-directory-at") (memory $memory)))
  (core func $open (canon lower (func $files "[method]descriptor.open-at") (memory $memory)))
  (core func $directories
    (canon lower (func $preopens "get-directories") (memory $memory) (realloc $realloc)))
  (core func $variables
    (canon lower (func $environment "get-environment") (memory $memory) (realloc $realloc)))
  (core func $now (canon lower (func $clock "now")))
  (core func $connect (canon lower (func $sockets "create-tcp-socket") (memory $memory)))
  (core instance $given
    (export "create" (func $create))
    (export "open" (func $open))
    (export "directories" (func $directories))
    (export "variables" (func $variables))
    (export "now" (func $now))
    (export "connect" (func $connect))
  )
  (core module $main
    (import "libc" "memory" (memory 2))
    (import "libc" "reset" (func $reset))
    (import "given" "create" (func $create (param i32 i32 i32 i32)))
    (import "given" "open" (func $open (param i32 i32 i32 i32 i32 i32 i32)))
    (import "given" "directories" (func $directories (param i32)))
    (import "given" "variables" (func $variables (param i32)))
    (import "given" "now" (func $now (result i64)))
    (import "given" "connect" (func $connect (param i32 i32)))
    (data (i32.const 1024) "asks1.0.0")
    (data (i32.const 1040) ".")
    (data (i32.const 512) "\00\04\00\00\04\00\00\00\04\04\00\00\05\00\00\00")
    (func $answer (param $n i32) (result i32)
      (local $at i32)
      (local.set $at (i32.const 320))
      (loop $digits
        (local.set $at (i32.sub (local.get $at) (i32.const 1)))
        (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
        (local.set $n (i32.div_u (local.get $n) (i32.const 10)))
        (br_if $digits (local.get $n)))
      (i32.store (i32.const 256) (i32.const 0))
      (i32.store (i32.const 260) (local.get $at))
      (i32.store (i32.const 264) (i32.sub (i32.const 320) (local.get $at)))
      (i32.const 256))
    (func (export "describe") (result i32) (i32.const 512))
    (func (export "execute") (param $at i32) (param $length i32) (result i32)
      (local $what i32)
      (local.set $what (i32.load8_u offset=8 (local.get $at)))
      ;; d: make a folder of this path in the first that was granted; 100 if none was
      (if (i32.eq (local.get $what) (i32.const 100)) (then
        (call $directories (i32.const 400))
        (if (i32.eqz (i32.load (i32.const 404))) (then (return (call $answer (i32.const 100)))))
        (call $create (i32.load (i32.load (i32.const 400)))
          (i32.add (local.get $at) (i32.const 9)) (i32.sub (local.get $length) (i32.const 11)) (i32.const 408))
        (return (call $answer (select
          (i32.add (i32.const 1) (i32.load8_u (i32.const 409))) (i32.const 0) (i32.load8_u (i32.const 408)))))))
      ;; o: open the first folder that was granted until it cannot be opened
      (if (i32.eq (local.get $what) (i32.const 111)) (then
        (call $directories (i32.const 400))
        (loop $more
          (call $open (i32.load (i32.load (i32.const 400))) (i32.const 0) (i32.const 1040) (i32.const 1)
            (i32.const 2) (i32.const 1) (i32.const 408))
          (br_if $more (i32.eqz (i32.load8_u (i32.const 408)))))
        (return (call $answer (i32.add (i32.const 1) (i32.load8_u (i32.const 412)))))))
      ;; e: how many variables there are
      (if (i32.eq (local.get $what) (i32.const 101)) (then
        (call $variables (i32.const 400))
        (return (call $answer (i32.load (i32.const 404))))))
      ;; n: the network
      (if (i32.eq (local.get $what) (i32.const 110)) (then
        (call $connect (i32.const 0) (i32.const 408))
        (return (call $answer (select
          (i32.add (i32.const 1) (i32.load8_u (i32.const 412))) (i32.const 0) (i32.load8_u (i32.const 408)))))))
      ;; c: whether the clock goes
      (call $answer (i64.ne (call $now) (i64.const 0))))
    (func (export "after") (param i32) (call $reset))
  )
  (core instance $main (instantiate $main (with "libc" (instance $libc)) (with "given" (instance $given))))

  (type $about (record
    (field "name" string) (field "version" string) (field "description" string) (field "parameters" string)))
  (type $failure (record (field "message" string) (field "temporary" bool)))
  (func $describe (result $about) (canon lift (core func $main "describe") (memory $memory)))
  (func $execute (param "params" string) (result (result string (error $failure)))
    (canon lift (core func $main "execute") (memory $memory) (realloc $realloc)
      (post-return (core func $main "after"))))
  (component $tool
    (type $about (record
      (field "name" string) (field "version" string) (field "description" string) (field "parameters" string)))
    (type $failure (record (field "message" string) (field "temporary" bool)))
    (import "about" (type $about-in (eq $about)))
    (import "failure" (type $failure-in (eq $failure)))
    (import "describe" (func $describe (result $about-in)))
    (import "execute" (func $execute (param "params" string) (result (result string (error $failure-in)))))
    (export $about-out "about" (type $about))
    (export $failure-out "failure" (type $failure))
    (export "describe" (func $describe) (func (result $about-out)))
    (export "execute" (func $execute)
      (func (param "params" string) (result (result string (error $failure-out)))))
  )
  (instance $tool (instantiate $tool
    (with "about" (type $about)) (with "failure" (type $failure))
    (with "describe" (func $describe)) (with "execute" (func $execute))))
  (export "swarm:plugin/tool@0.1.0" (instance $tool))
)
