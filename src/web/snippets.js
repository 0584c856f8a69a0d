// The request as code to copy. Pictures are form files, because base64 would fill the screen.

/** For `curl`, `python` and `javascript`: the request of `{url, fileName, fields, keyed}` as text. */
export const SNIPPETS = { curl, python, javascript };

/** `[name, text]` for every field; lists repeat their name, as forms do. */
function pairs(fields) {
  return Object.entries(fields).flatMap(([name, value]) => [value].flat().map((each) => [name, String(each)]));
}

/** One word of a POSIX shell, whatever is in it. */
function shell(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** curl reads `;` and `,` in a file's name as its own syntax unless the name is in double quotes. */
function curlFile(name) {
  return /[;,"\\]/.test(name) ? `"${name.replaceAll(/["\\]/g, "\\$&")}"` : name;
}

/** `-F` reads `@`, `<`, `;` and spaces around a value as syntax; `--form-string` takes it as it stands. */
function curlField([name, text]) {
  const flag = /^\w([^;]*[^;\s])?$/.test(text) ? "-F" : "--form-string";
  return `${flag} ${shell(`${name}=${text}`)}`;
}

function curl({ url, fileName, fields, keyed }) {
  return [
    `curl ${shell(url)}`,
    ...(keyed ? [`-H "Authorization: Bearer $API_KEY"`] : []),
    `-F ${shell(`image=@${curlFile(fileName)}`)}`,
    ...pairs(fields).map(curlField),
  ].join(" \\\n  ");
}

/** JSON's strings are Python's and JavaScript's too, escapes included. */
const quoted = (text) => JSON.stringify(text);

function python({ url, fileName, fields, keyed }) {
  const data = Object.entries(fields).map(([name, value]) => `${quoted(name)}: ${pythonValue(value)}`);
  return [
    ...(keyed ? ["import os", ""] : []),
    "import requests",
    "",
    `with open(${quoted(fileName)}, "rb") as image:`,
    "    response = requests.post(",
    `        ${quoted(url)},`,
    ...(keyed ? [`        headers={"Authorization": "Bearer " + os.environ["API_KEY"]},`] : []),
    `        files={"image": image},`,
    ...(data.length ? [`        data={${data.join(", ")}},`] : []),
    "    )",
    "response.raise_for_status()",
    `print(response.json()["results"][0])`,
  ].join("\n");
}

function pythonValue(value) {
  return Array.isArray(value) ? `[${value.map(quoted).join(", ")}]` : quoted(value);
}

function javascript({ url, fileName, fields, keyed }) {
  return [
    `import { openAsBlob } from "node:fs"; // in a browser, a File of an <input> will do`,
    "",
    "const body = new FormData();",
    `body.append("image", await openAsBlob(${quoted(fileName)}), ${quoted(fileName)});`,
    ...pairs(fields).map(([name, text]) => `body.append(${quoted(name)}, ${quoted(text)});`),
    "",
    ...(keyed ? ["const headers = { Authorization: `Bearer ${process.env.API_KEY}` };"] : []),
    `const response = await fetch(${quoted(url)}, { method: "POST", ${keyed ? "headers, " : ""}body });`,
    "if (!response.ok) throw new Error(await response.text());",
    "console.log((await response.json()).results[0]);",
  ].join("\n");
}
