// Counts the words of a text.

const schema = { type: "object", properties: { text: { type: "string" } }, required: ["text"] };

export const tool = {
  describe() {
    return {
      name: "words",
      version: "1.0.0",
      description: "Counts the words of a text",
      parameters: JSON.stringify(schema),
    };
  },

  // A failure is thrown: `throw { message: "why", temporary: false }`.
  execute(params) {
    const words = JSON.parse(params).text.split(/\s+/).filter((word) => word !== "");
    return JSON.stringify({ words: words.length });
  },
};
