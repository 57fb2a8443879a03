;; A plugin as text, made by hand: counts the words of a text, which are what stands between spaces.
;; The example puts in what stands in angle brackets. Tools of other languages make the same from a few lines of yours.
(component
  (core module $main
    (memory (export "memory") 2)
    (data (i32.const 64) "<version>")
    (data (i32.const 128) "Counts the words of a text")
    (data (i32.const 256) "{\"type\":\"object\",\"properties\":{\"text\":{\"type\":\"string\"}},\"required\":[\"text\"],\"additionalProperties\":false}")

    (func $text (param $at i32) (param $text i32) (param $length i32)
      (i32.store (local.get $at) (local.get $text))
      (i32.store offset=4 (local.get $at) (local.get $length)))
    ;; A name, which is empty and so that of the file, a version, a description, the schema of the parameters.
    (func (export "describe") (result i32)
      (call $text (i32.const 8) (i32.const 64) (i32.const 5))
      (call $text (i32.const 16) (i32.const 128) (i32.const 26))
      (call $text (i32.const 24) (i32.const 256) (i32.const 106))
      (i32.const 0))

    ;; Where the parameters are put, of which there is one at a time. Longer ones than fit are a trap.
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
    (func (export "execute") (param $at i32) (param $length i32) (result i32)
      (local $end i32) (local $words i32) (local $inside i32)
      <first>
      ;; What stands between {"text":" and "}
      (local.set $end (i32.sub (i32.add (local.get $at) (local.get $length)) (i32.const 2)))
      (local.set $at (i32.add (local.get $at) (i32.const 9)))
      (block $over
        (loop $next
          (br_if $over (i32.ge_u (local.get $at) (local.get $end)))
          (if (i32.eq (i32.load8_u (local.get $at)) (i32.const 32))
            (then (local.set $inside (i32.const 0)))
            (else
              (local.set $words (i32.add (local.get $words) (i32.eqz (local.get $inside))))
              (local.set $inside (i32.const 1))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br $next)))
      (call $ok (local.get $words)))
    ;; A number in decimal is JSON. It ends where the answer begins, at 1024.
    (func $ok (param $n i32) (result i32)
      (local $at i32)
      (local.set $at (i32.const 1024))
      (loop $digits
        (local.set $at (i32.sub (local.get $at) (i32.const 1)))
        (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
        (local.set $n (i32.div_u (local.get $n) (i32.const 10)))
        (br_if $digits (local.get $n)))
      (call $text (i32.const 1028) (local.get $at) (i32.sub (i32.const 1024) (local.get $at)))
      (i32.const 1024))
  )
  (core instance $main (instantiate $main))
  (alias core export $main "memory" (core memory $memory))
  (alias core export $main "realloc" (core func $realloc))

  (type $about (record
    (field "name" string) (field "version" string) (field "description" string) (field "parameters" string)))
  (type $failure (record (field "message" string) (field "temporary" bool)))
  (func $describe (result $about) (canon lift (core func $main "describe") (memory $memory)))
  (func $execute (param "params" string) (result (result string (error $failure)))
    (canon lift (core func $main "execute") (memory $memory) (realloc $realloc)))
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
