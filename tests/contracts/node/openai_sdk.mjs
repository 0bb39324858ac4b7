// Calls a leaderboard's production with OpenAI's own JavaScript SDK, and prints what came of it.
//
//     node openai_sdk.mjs BASE_URL TOKEN MODEL
import OpenAI from 'openai'

const [baseURL, apiKey, model] = process.argv.slice(2)
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 })
const messages = [{ role: 'user', content: 'What is 2 + 3?' }]

const models = []
for await (const each of client.models.list()) models.push(each.id)
const whole = await client.chat.completions.create({ model, messages })
let text = ''
let usage = null
const stream = await client.chat.completions.create({
  model,
  messages,
  stream: true,
  stream_options: { include_usage: true },
})
for await (const chunk of stream) {
  text += chunk.choices[0]?.delta?.content ?? ''
  usage = chunk.usage ?? usage
}
const failure = await client.chat.completions
  .create({ model: 'leaderboard/none', messages })
  .catch((error) => ({ name: error.constructor.name, status: error.status, code: error.code }))
console.log(
  JSON.stringify({ models, whole: whole.choices[0].message.content, text, usage, failure }),
)
