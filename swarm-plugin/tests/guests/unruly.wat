;; A plugin that does what its parameters say: {"do": "..."}, of which the first letter counts.
;; The test puts in what stands in angle brackets.
(component
  (import "swarm:plugin/host@0.1.0" (instance $host
    (type $level' (enum "trace" "debug" "info" "warn" "error"))
    (export "level" (type $level (eq $level')))
    (export "log" (func (param "level" $level) (param "message" string)))
    (export "progress" (func (param "done" f64) (param "total" (option f64)) (param "message" (option string))))
  ))
  (import "wasi:cli/exit@0.2.0" (instance $exit
    (export "exit" (func (param "status" (result))))
  ))
  (core module $libc
    (memory (export "memory") 2)
    (global $top (mut i32) (i32.const 65536))
    (func (export "reset") (global.set $top (i32.const 65536)))
    ;; Never gives back before the call is over.
    (func (export "realloc") (param $old i32) (param $had i32) (param $align i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
      (global.set $top (i32.add (local.get $at) (local.get $size)))
      (block $fits
        (br_if $fits (i32.le_u (global.get $top) (i32.mul (memory.size) (i32.const 65536))))
        (br_if $fits (i32.ne (i32.const -1)
          (memory.grow (i32.add (i32.const 1) (i32.div_u (local.get $size) (i32.const 65536))))))
        unreachable)
      (memory.copy (local.get $at) (local.get $old) (local.get $had))
      (local.get $at))
  )
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "realloc" (core func $realloc))
  (core func $log (canon lower (func $host "log") (memory $memory)))
  (core func $progress (canon lower (func $host "progress") (memory $memory)))
  (core func $end (canon lower (func $exit "exit")))
  (core instance $given
    (export "log" (func $log))
    (export "progress" (func $progress))
    (export "exit" (func $end))
  )
  (core module $main
    (import "libc" "memory" (memory 2))
    (import "libc" "reset" (func $reset))
    (import "given" "log" (func $log (param i32 i32 i32)))
    (import "given" "progress" (func $progress (param f64 i32 f64 i32 i32 i32)))
    (import "given" "exit" (func $exit (param i32)))
    (global $count (mut i32) (i32.const 0))
    (data (i32.const 512) "<about>")
    (data (i32.const 1024) "<texts>")
    (data (i32.const 32768) "no luck")
    (data (i32.const 32784) "half way")
    (data (i32.const 32800) "[1, 2")
    (data (i32.const 32816) "\ff\fe")
    (data (i32.const 32832) "not this one")

    (func $ok (param $at i32) (param $length i32) (result i32)
      (i32.store (i32.const 256) (i32.const 0))
      (i32.store (i32.const 260) (local.get $at))
      (i32.store (i32.const 264) (local.get $length))
      (i32.const 256))
    (func $failure (param $temporary i32) (result i32)
      (i32.store (i32.const 256) (i32.const 1))
      (i32.store (i32.const 260) (i32.const 32768))
      (i32.store (i32.const 264) (i32.const 7))
      (i32.store (i32.const 268) (local.get $temporary))
      (i32.const 256))
    ;; A number in decimal, which ends at 320.
    (func $number (param $n i32) (result i32)
      (local $at i32)
      (local.set $at (i32.const 320))
      (loop $digits
        (local.set $at (i32.sub (local.get $at) (i32.const 1)))
        (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
        (local.set $n (i32.div_u (local.get $n) (i32.const 10)))
        (br_if $digits (local.get $n)))
      (call $ok (local.get $at) (i32.sub (i32.const 320) (local.get $at))))
    (func $deeper (param $n i32) (result i32)
      (i32.add (i32.const 1) (call $deeper (i32.add (local.get $n) (i32.const 1)))))
    (func $grow
      (loop $more
        (br_if $more (i32.ne (i32.const -1) (memory.grow (i32.const 16))))))

    (func (export "describe") (result i32) <describe> (i32.const 512))

    (func (export "execute") (param $at i32) (param $length i32) (result i32)
      (local $what i32)
      (local.set $what (i32.load8_u offset=7 (local.get $at)))
      (global.set $count (i32.add (global.get $count) (i32.const 1)))
      ;; c: how many calls this instance had
      (if (i32.eq (local.get $what) (i32.const 99)) (then (return (call $number (global.get $count)))))
      ;; v: the schema of its parameters
      (if (i32.eq (local.get $what) (i32.const 118)) (then
        (return (call $ok (i32.load (i32.const 536)) (i32.load (i32.const 540))))))
      ;; l: a loop
      (if (i32.eq (local.get $what) (i32.const 108)) (then (loop $forever (br $forever))))
      ;; m: memory without end
      (if (i32.eq (local.get $what) (i32.const 109)) (then (call $grow) unreachable))
      ;; s: stack without end
      (if (i32.eq (local.get $what) (i32.const 115)) (then (drop (call $deeper (i32.const 0)))))
      ;; t: a trap
      (if (i32.eq (local.get $what) (i32.const 116)) (then unreachable))
      ;; x: exit(0)
      (if (i32.eq (local.get $what) (i32.const 120)) (then (call $exit (i32.const 0))))
      ;; h: a huge answer
      (if (i32.eq (local.get $what) (i32.const 104)) (then
        (drop (memory.grow (i32.const 640)))
        (return (call $ok (i32.const 65536) (i32.const 33554432)))))
      ;; j: no JSON
      (if (i32.eq (local.get $what) (i32.const 106)) (then (return (call $ok (i32.const 32800) (i32.const 5)))))
      ;; u: no text
      (if (i32.eq (local.get $what) (i32.const 117)) (then (return (call $ok (i32.const 32816) (i32.const 2)))))
      ;; b: an answer that is not in its memory
      (if (i32.eq (local.get $what) (i32.const 98)) (then (return (call $ok (i32.const -65536) (i32.const 65535)))))
      ;; f, r: a failure, and one that may be tried again
      (if (i32.eq (local.get $what) (i32.const 102)) (then (return (call $failure (i32.const 0)))))
      (if (i32.eq (local.get $what) (i32.const 114)) (then (return (call $failure (i32.const 1)))))
      ;; p: progress and a line in the log
      (if (i32.eq (local.get $what) (i32.const 112)) (then
        (call $log (i32.const 2) (i32.const 32784) (i32.const 8))
        (call $progress (f64.const 1) (i32.const 1) (f64.const 2) (i32.const 1) (i32.const 32784) (i32.const 8))))
      ;; g: lines in the log without end
      (if (i32.eq (local.get $what) (i32.const 103)) (then
        (loop $lines
          (call $log (i32.const 2) (i32.const 32784) (i32.const 8))
          (br $lines))))
      (call $ok (local.get $at) (local.get $length)))
    (func (export "after") (param i32) (call $reset))

    ;; The state is the count. One that is "no" is not taken.
    (func (export "init") (param $is i32) (param $at i32) (param $length i32) (result i32)
      (local $n i32)
      (i32.store (i32.const 256) (i32.const 0))
      (if (i32.and (local.get $is) (i32.eq (i32.load8_u (local.get $at)) (i32.const 34))) (then
        (i32.store (i32.const 256) (i32.const 1))
        (i32.store (i32.const 260) (i32.const 32832))
        (i32.store (i32.const 264) (i32.const 12))
        (return (i32.const 256))))
      (block $read
        (loop $digits
          (br_if $read (i32.eqz (local.get $length)))
          (local.set $n (i32.add (i32.mul (local.get $n) (i32.const 10))
            (i32.sub (i32.load8_u (local.get $at)) (i32.const 48))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (local.set $length (i32.sub (local.get $length) (i32.const 1)))
          (br $digits)))
      (global.set $count (local.get $n))
      (call $reset)
      (i32.const 256))
    (func (export "save") (result i32) <save> (call $number (global.get $count)))
    (func (export "cleanup") (result i32) <cleanup> (i32.store (i32.const 256) (i32.const 0)) (i32.const 256))
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
  (export "<tool>" (instance $tool))

  (func $init (param "state" (option string)) (result (result (error string)))
    (canon lift (core func $main "init") (memory $memory) (realloc $realloc)))
  (func $save (result (result string (error string))) (canon lift (core func $main "save") (memory $memory)))
  (func $cleanup (result (result (error string))) (canon lift (core func $main "cleanup") (memory $memory)))
  (instance $lifecycle
    (export "init" (func $init)) (export "save" (func $save)) (export "cleanup" (func $cleanup)))
  <lifecycle>
)
