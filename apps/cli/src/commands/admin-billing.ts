import { budgetActions, budgetScopes } from "@farpool/contract";
import { defineCommand, value } from "../core/command.ts";
import { amount, instant, oneOf } from "../core/parse-values.ts";
import { jsonOption } from "./pool.ts";

const listPrices = {
  options: jsonOption,
  summary: "all prices, those of the past and of the future too",
} as const;

export const pricesCommand = defineCommand({
  name: "prices",
  summary: "what a GPU of a model costs per hour",
  options: jsonOption,
  run: async ({ options }) => (await import("../pool/billing.ts")).prices(options.isJson),
  commands: [
    defineCommand({
      name: "list",
      ...listPrices,
      run: async ({ options }) => (await import("../pool/billing.ts")).prices(options.isJson),
    }),
    defineCommand({
      name: "set",
      summary: "a price per GPU and hour, from now on",
      arguments: "<price>",
      options: {
        ...jsonOption,
        model: value(
          "--model <name>",
          "of this model only, as 'farpool gpus' names it (default: of all)",
          String,
        ),
        from: value("--from <time>", "from then on (default: now)", instant("--from")),
        to: value("--to <time>", "until then (default: until further notice)", instant("--to")),
      },
      details: "What was used before keeps its price: records are never edited.",
      run: async ({ options, arguments: [price = ""] }) =>
        (await import("../pool/billing.ts")).setPrice(options, amount("a price")(price)),
    }),
    defineCommand({
      name: "end",
      summary: "no price any more, from now on",
      options: {
        ...jsonOption,
        model: value("--model <name>", "of this model (default: the one of all models)", String),
        from: value("--from <time>", "from then on (default: now)", instant("--from")),
      },
      run: async ({ options }) =>
        (await import("../pool/billing.ts")).setPrice({ ...options, to: undefined }, null),
    }),
    defineCommand({
      name: "settings",
      summary: "show or choose the pool's currency and time zone, before the first charge",
      options: {
        ...jsonOption,
        currency: value("--currency <code>", "three letters: EUR, CHF", String),
        timeZone: value("--time-zone <zone>", "whose days and months count: Europe/Berlin", String),
      },
      run: async ({ options }) => (await import("../pool/billing.ts")).settings(options),
    }),
  ],
});

export const budgetsCommand = defineCommand({
  name: "budgets",
  summary: "what projects and users may spend in a month",
  options: jsonOption,
  run: async ({ options }) => (await import("../pool/billing.ts")).budgets(options.isJson),
  commands: [
    defineCommand({
      name: "list",
      summary: "all budgets, with what is spent of them",
      options: jsonOption,
      run: async ({ options }) => (await import("../pool/billing.ts")).budgets(options.isJson),
    }),
    defineCommand({
      name: "set",
      summary: "give a project or user a budget, or change it",
      arguments: "<project|user> <name> <amount>",
      options: {
        ...jsonOption,
        action: value(
          "--action <action>",
          `what happens when it is spent: ${budgetActions.join(", ")} (default: warn)`,
          oneOf("--action", budgetActions),
        ),
      },
      details:
        "warn: sessions say so · queue-last: they wait behind all others · refuse: there are no new ones.",
      run: async ({ options, arguments: [scope = "", subject = "", limit = ""] }) =>
        (await import("../pool/billing.ts")).setBudget(options, {
          scope: oneOf("a budget's kind", budgetScopes)(scope),
          subject,
          amount: amount("a budget")(limit),
        }),
    }),
    defineCommand({
      name: "remove",
      summary: "take a budget away",
      arguments: "<project|user> <name>",
      options: jsonOption,
      run: async ({ options, arguments: [scope = "", subject = ""] }) =>
        (await import("../pool/billing.ts")).removeBudget(options.isJson, {
          scope: oneOf("a budget's kind", budgetScopes)(scope),
          subject,
        }),
    }),
  ],
});

export const adminUsageCommand = defineCommand({
  name: "usage",
  summary: "correct what a session costs",
  commands: [
    defineCommand({
      name: "correct",
      summary: "add a record that corrects the cost of a session",
      arguments: "<session>",
      options: {
        ...jsonOption,
        credit: value("--credit <amount>", "take this off", amount("--credit")),
        charge: value("--charge <amount>", "add this", amount("--charge")),
        reason: value("--reason <text>", "why: it is part of the record", String),
      },
      run: async ({ options, arguments: [session = ""] }) =>
        (await import("../pool/billing.ts")).correct(options, session),
    }),
  ],
});
