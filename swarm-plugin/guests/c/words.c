// Counts the words of a text. Without a library, and without generated bindings: what a component exports are functions
// of core WebAssembly with these names, which pass texts as an address and a length.

typedef unsigned int u32;
typedef unsigned char u8;

#define EXPORT(name) __attribute__((export_name(name)))
#define TOOL "swarm:plugin/tool@0.1.0#"

typedef struct { const char *at; u32 length; } text;
#define TEXT(literal) { literal, sizeof(literal) - 1 }

// Memory for the parameters and the answer of one call, given back when the host has read the answer.
static u8 memory[4 * 1024 * 1024] __attribute__((aligned(8)));
static u32 used;

EXPORT("cabi_realloc") void *cabi_realloc(void *old, u32 had, u32 align, u32 size) {
  u32 at = (used + align - 1) & ~(align - 1);
  if (size > sizeof memory || at > sizeof memory - size) __builtin_trap();
  used = at + size;
  for (u32 i = 0; i < had && i < size; i++) memory[at + i] = ((u8 *)old)[i];
  return memory + at;
}

static const struct { text name, version, description, parameters; } about = {
  TEXT("words"), TEXT("1.0.0"), TEXT("Counts the words of a text"),
  TEXT("{\"type\":\"object\",\"properties\":{\"text\":{\"type\":\"string\"}},\"required\":[\"text\"],"
       "\"additionalProperties\":false}"),
};

EXPORT(TOOL "describe") const void *describe(void) { return &about; }

// Of result<string, failure>: 0 and a text, or 1, a text, and whether to try again.
static struct { u8 failed; text said; u8 temporary; } answer;

// Whether the text goes on at i with a blank, written as it is or escaped, of how many bytes.
static u32 blank(const char *json, u32 i, u32 length) {
  if (json[i] == ' ') return 1;
  if (json[i] == '\\' && i + 1 < length && (json[i + 1] == 'n' || json[i + 1] == 't' || json[i + 1] == 'r')) return 2;
  return 0;
}

// The parameters were checked against the schema: an object with a text, and here nothing else, {"text":"..."}.
EXPORT(TOOL "execute") const void *execute(const char *json, u32 length) {
  const u32 begin = sizeof("{\"text\":\"") - 1, end = length - 2;
  u32 words = 0, inside = 0;
  for (u32 i = begin; i < end;) {
    u32 skip = blank(json, i, end);
    words += !skip && !inside;
    inside = !skip;
    i += skip ? skip : json[i] == '\\' ? 2 : 1;
  }
  static char said[32] = "{\"words\":";
  u32 at = 9, digits = 1;
  for (u32 n = words; n >= 10; n /= 10) digits++;
  for (u32 i = 0, n = words; i < digits; i++, n /= 10) said[at + digits - 1 - i] = '0' + n % 10;
  said[at + digits] = '}';
  answer.failed = 0;
  answer.said = (text){ said, at + digits + 1 };
  return &answer;
}

EXPORT("cabi_post_" TOOL "execute") void after(const void *answered) { used = 0; }
