extension Regex {
  /// A pattern of a built-in; an invalid one fails the call.
  static func cached(_ pattern: [UInt8], _ call: Call, ignoreCase: Bool = false) throws -> Regex {
    if let known = call.context.regexCache[ignoreCase, pattern] { return known }
    let made = try Regex(pattern, ignoreCase: ignoreCase)
    call.context.regexCache[ignoreCase, pattern] = made
    return made
  }

  /// Name and number of each group; unnamed ones are called g1, g2, ….
  var namedGroups: [(name: String, number: Int)] {
    groupNames.enumerated().dropFirst().map { ($1 ?? "g\($0)", $0) }
  }
}

/// Compiled patterns of built-ins.
struct RegexCache {
  private var folded: [[UInt8]: Regex] = [:]
  private var exact: [[UInt8]: Regex] = [:]

  subscript(_ ignoreCase: Bool, _ pattern: [UInt8]) -> Regex? {
    get { ignoreCase ? folded[pattern] : exact[pattern] }
    set {
      if folded.count + exact.count > 1000 {
        folded = [:]
        exact = [:]
      }
      if ignoreCase { folded[pattern] = newValue } else { exact[pattern] = newValue }
    }
  }
}

extension Functions {
  static let patterns: [FunctionSpec] = [
    FunctionSpec(
      "regex_replace", "source*: string, replace: string, replace_lambda: string, re*: string",
      "Replaces all matches of a pattern."
    ) { call in
      let source = try call.required("source")
      let regex = try Regex.cached(try call.required("re"), call, ignoreCase: true)
      if let lambda = try call.lambda("replace_lambda") {
        return .bytes(
          regex.replaceAll(source) { match in
            let text = Regex.group(0, of: match, in: source) ?? []
            return Call.string(lambda.call([.bytes(text)], in: call.scope))
          })
      }
      let replacement = call.string("replace") ?? []
      return .bytes(regex.replaceAll(source) { regex.expand(replacement, $0, in: source) })
    },
    FunctionSpec(
      "regex_transform", "source*: string, map*: dict, key: string", "Applies several replacements, in order."
    ) { call in
      var text = try call.required("source")
      for name in try call.dict("map")?.keys ?? [] {
        let regex = try Regex.cached(Array(name.utf8), call, ignoreCase: true)
        let replacement = Call.string(try call.dict("map")?[name] ?? .null)
        let source = text
        text = regex.replaceAll(source) { regex.expand(replacement, $0, in: source) }
      }
      return .bytes(text)
    },
    FunctionSpec("parse_string_with_regex", "string*: string, regex*: string[]", "Named groups of patterns.") { call in
      let text = try call.required("string")
      let result = VQLDict()
      for pattern in call.strings("regex") {
        let regex = try Regex.cached(pattern, call, ignoreCase: true)
        guard let match = regex.allMatches(text).last else { continue }
        for (name, number) in regex.namedGroups {
          result.set(name, .bytes(Regex.group(number, of: match, in: text) ?? []))
        }
      }
      return .dict(result)
    },
    FunctionSpec(
      "grok", "grok*: string, data*: string, patterns: any, all_captures: bool", "Parses text with a grok pattern."
    ) { call in
      var extra: [String: String] = [:]
      if case .dict(let dict)? = call.materialized("patterns") {
        dict.eachMember { extra[$0] = String(decoding: $1.text, as: UTF8.self) }
      }
      let source = String(decoding: try call.required("grok"), as: UTF8.self)
      let expression = try Grok.expand(source, extra, allCaptures: call.bool("all_captures"))
      let regex = try Regex.cached(Array(expression.utf8), call)
      let data = try call.required("data")
      guard let match = regex.firstMatch(data) else { return .dict(VQLDict()) }
      var found: [String: VQLValue] = [:]
      for (name, number) in regex.namedGroups where regex.groupNames[number] != nil {
        let shown = Grok.name(of: name)
        let text = Regex.group(number, of: match, in: data) ?? []
        if found[shown] == nil || !text.isEmpty { found[shown] = .bytes(text) }
      }
      return .dict(VQLDict(found.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }))
    },
  ]
}

/// Grok patterns: `%{NAME:field}` in a regular expression.
enum Grok {
  static let library: [String: String] = [
    "USERNAME": "[a-zA-Z0-9._-]+", "USER": "%{USERNAME}", "EMAILLOCALPART": "[a-zA-Z][a-zA-Z0-9_.+-=:]+",
    "EMAILADDRESS": "%{EMAILLOCALPART}@%{HOSTNAME}", "INT": "(?:[+-]?(?:[0-9]+))",
    "BASE10NUM": "(?:[+-]?(?:[0-9]+(?:\\.[0-9]+)?)|(?:\\.[0-9]+))", "NUMBER": "(?:%{BASE10NUM})",
    "BASE16NUM": "(?:0[xX]?[0-9a-fA-F]+)", "POSINT": "\\b(?:[1-9][0-9]*)\\b", "NONNEGINT": "\\b(?:[0-9]+)\\b",
    "WORD": "\\b\\w+\\b", "NOTSPACE": "\\S+", "SPACE": "\\s*", "DATA": ".*?", "GREEDYDATA": ".*",
    "QUOTEDSTRING": "(?:\"(?:\\\\.|[^\\\\\"]+)*\"|'(?:\\\\.|[^\\\\']+)*')", "QS": "%{QUOTEDSTRING}",
    "UUID": "[A-Fa-f0-9]{8}-(?:[A-Fa-f0-9]{4}-){3}[A-Fa-f0-9]{12}",
    "MAC": "(?:(?:[A-Fa-f0-9]{2}[:-]){5}[A-Fa-f0-9]{2})",
    "IPV6": "(?:[0-9A-Fa-f]{0,4}:){2,7}(?:[0-9A-Fa-f]{0,4}|%{IPV4})(?:%\\S+)?",
    "IPV4": "(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\\.){3}(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])",
    "IP": "(?:%{IPV6}|%{IPV4})",
    "HOSTNAME": "\\b(?:[0-9A-Za-z][0-9A-Za-z-]{0,62})(?:\\.(?:[0-9A-Za-z][0-9A-Za-z-]{0,62}))*(?:\\.?|\\b)",
    "HOST": "%{HOSTNAME}", "IPORHOST": "(?:%{IP}|%{HOSTNAME})", "HOSTPORT": "%{IPORHOST}:%{POSINT}",
    "PATH": "(?:%{UNIXPATH}|%{WINPATH})", "UNIXPATH": "(?:/[\\w_%!$@:.,-]*)+",
    "TTY": "(?:/dev/(?:pts|tty[pq])(?:\\w+)?/?(?:[0-9]+))",
    "WINPATH": "(?:[A-Za-z]+:|\\\\)(?:\\\\[^\\\\?*]*)+", "URIPROTO": "[A-Za-z]+(?:\\+[A-Za-z+]+)?",
    "URIHOST": "%{IPORHOST}(?::%{POSINT})?", "URIPATH": "(?:/[A-Za-z0-9$.+!*'(){},~:;=@#%_\\-]*)+",
    "URIPARAM": "\\?[A-Za-z0-9$.+!*'|(){},~@#%&/=:;_?\\-\\[\\]]*", "URIPATHPARAM": "%{URIPATH}(?:%{URIPARAM})?",
    "URI": "%{URIPROTO}://(?:%{USER}(?::[^@]*)?@)?(?:%{URIHOST})?(?:%{URIPATHPARAM})?",
    "MONTH":
      "\\b(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|Jun(?:e)?|Jul(?:y)?|Aug(?:ust)?|Sep(?:tember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)\\b",
    "MONTHNUM": "(?:0?[1-9]|1[0-2])", "MONTHNUM2": "(?:0[1-9]|1[0-2])",
    "MONTHDAY": "(?:(?:0[1-9])|(?:[12][0-9])|(?:3[01])|[1-9])",
    "DAY": "(?:Mon(?:day)?|Tue(?:sday)?|Wed(?:nesday)?|Thu(?:rsday)?|Fri(?:day)?|Sat(?:urday)?|Sun(?:day)?)",
    "YEAR": "(?:\\d\\d){1,2}", "HOUR": "(?:2[0123]|[01]?[0-9])", "MINUTE": "(?:[0-5][0-9])",
    "SECOND": "(?:(?:[0-5][0-9]|60)(?:[:.,][0-9]+)?)", "TIME": "%{HOUR}:%{MINUTE}:%{SECOND}",
    "DATE_US": "%{MONTHNUM}[/-]%{MONTHDAY}[/-]%{YEAR}", "DATE_EU": "%{MONTHDAY}[./-]%{MONTHNUM}[./-]%{YEAR}",
    "ISO8601_TIMEZONE": "(?:Z|[+-]%{HOUR}(?::?%{MINUTE}))", "ISO8601_SECOND": "(?:%{SECOND}|60)",
    "TIMESTAMP_ISO8601": "%{YEAR}-%{MONTHNUM}-%{MONTHDAY}[T ]%{HOUR}:?%{MINUTE}(?::?%{SECOND})?%{ISO8601_TIMEZONE}?",
    "DATE": "%{DATE_US}|%{DATE_EU}", "DATESTAMP": "%{DATE}[- ]%{TIME}", "TZ": "(?:[PMCE][SD]T|UTC)",
    "DATESTAMP_RFC822": "%{DAY} %{MONTH} %{MONTHDAY} %{YEAR} %{TIME} %{TZ}",
    "SYSLOGTIMESTAMP": "%{MONTH} +%{MONTHDAY} %{TIME}", "PROG": "[\\w._/%-]+",
    "SYSLOGPROG": "%{PROG:program}(?:\\[%{POSINT:pid}\\])?",
    "SYSLOGHOST": "%{IPORHOST}", "SYSLOGFACILITY": "<%{NONNEGINT:facility}.%{NONNEGINT:priority}>",
    "HTTPDATE": "%{MONTHDAY}/%{MONTH}/%{YEAR}:%{TIME} %{INT}",
    "SYSLOGBASE": "%{SYSLOGTIMESTAMP:timestamp} (?:%{SYSLOGFACILITY} )?%{SYSLOGHOST:logsource} %{SYSLOGPROG}:",
    "COMMONAPACHELOG":
      "%{IPORHOST:clientip} %{USER:ident} %{USER:auth} \\[%{HTTPDATE:timestamp}\\] \"(?:%{WORD:verb} %{NOTSPACE:request}(?: HTTP/%{NUMBER:httpversion})?|%{DATA:rawrequest})\" %{NUMBER:response} (?:%{NUMBER:bytes}|-)",
    "COMBINEDAPACHELOG": "%{COMMONAPACHELOG} %{QS:referrer} %{QS:agent}",
    "LOGLEVEL":
      "(?:[Aa]lert|ALERT|[Tt]race|TRACE|[Dd]ebug|DEBUG|[Nn]otice|NOTICE|[Ii]nfo|INFO|[Ww]arn?(?:ing)?|WARN?(?:ING)?|[Ee]rr?(?:or)?|ERR?(?:OR)?|[Cc]rit?(?:ical)?|CRIT?(?:ICAL)?|[Ff]atal|FATAL|[Ss]evere|SEVERE|EMERG(?:ENCY)?|[Ee]merg(?:ency)?)",
  ]
  private static let maximumLength = 200_000

  /// Field names may hold characters that group names may not; they travel hex-encoded.
  private static func groupName(_ field: String, _ number: Int) -> String {
    "f\(number)_" + String(decoding: Hex.encode(Array(field.utf8)), as: UTF8.self)
  }

  static func name(of group: String) -> String {
    guard group.hasPrefix("f"), let mark = group.firstIndex(of: "_"),
      Int(group[group.index(after: group.startIndex)..<mark]) != nil
    else { return group }
    let digits = Array(group[group.index(after: mark)...].utf8)
    var bytes: [UInt8] = []
    for place in stride(from: 0, to: digits.count - 1, by: 2) {
      guard let high = Hex.digit(digits[place]), let low = Hex.digit(digits[place + 1]) else { return group }
      bytes.append(high << 4 | low)
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  static func expand(_ pattern: String, _ extra: [String: String], allCaptures: Bool) throws -> String {
    var number = 0
    func replace(_ text: String, depth: Int) throws -> String {
      guard depth < 20 else { throw CallError("grok patterns are nested too deeply") }
      var out = ""
      var rest = Substring(text)
      while let open = rest.firstRange(of: "%{"), let close = rest[open.upperBound...].firstIndex(of: "}") {
        out += rest[..<open.lowerBound]
        let parts = rest[open.upperBound..<close].split(separator: ":", omittingEmptySubsequences: false).map(
          String.init)
        rest = rest[rest.index(after: close)...]
        guard let name = parts.first, let found = extra[name] ?? library[name] else {
          throw CallError("no pattern found for %{\(parts.first ?? "")}")
        }
        let inner = try replace(found, depth: depth + 1)
        let field = parts.count > 1 ? parts[1] : allCaptures ? name : ""
        if field.isEmpty {
          out += "(?:\(inner))"
        } else {
          number += 1
          out += "(?P<\(groupName(field, number))>\(inner))"
        }
        guard out.utf8.count < maximumLength else { throw CallError("grok pattern is too large") }
      }
      return out + rest
    }
    return try replace(pattern, depth: 0)
  }
}
